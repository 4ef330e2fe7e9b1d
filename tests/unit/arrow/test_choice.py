"""Which lane runs and why; what a contract asks for and cannot have."""

from __future__ import annotations

from typing import Any

import pytest
from contract_examples import contract_of

from headgate.arrow import choice
from headgate.arrow.choice import (
    decided_feeds,
    decided_lane,
    lane_problems,
    lanes,
    record_lane,
    screening_output,
    stateful_lane,
)
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze, with_lane

COLUMNS = [{"name": "n", "type": "int"}, {"name": "s", "type": "string"}]
COPY: dict[str, Any] = {"sql": "SELECT n, s FROM a", "to": [{"delta": "copy"}]}


def frozen(
    *lanes_: str | None, source: dict[str, Any] | None = None, output: dict[str, Any] | None = None,
    stateful: tuple[bool, ...] = (False, False), types: tuple[str, str] = ("integer", "string"),
    job: str | None = None,
) -> FrozenContract:  # fmt: skip
    fields = [
        {"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in zip("ns", types, strict=True)
    ]
    outputs, resolved = {}, {}
    for number, lane in enumerate(lanes_):
        name = f"o{number}"
        outputs[name] = {
            **COPY,
            "to": [{"delta": name}],
            **(output or {}),
            **({"lane": lane} if lane else {}),
        }
        resolved[name] = ResolvedOutput(stateful[number], {"type": "struct", "fields": fields})
    sources = {"a": {"topic": "t", "columns": COLUMNS, **(source or {})}}
    contract = contract_of(sources, outputs, **({"job": {"lane": job}} if job else {}))
    return freeze(
        contract, topics={"a": "t"}, replication=1, outputs=resolved, env="local", headgate_version="0"
    )


def test_the_jvm_lane_runs_where_nothing_was_said_or_decided():
    assert record_lane(frozen(None)).lane == "jvm"
    assert lane_problems(frozen(None)) == []


def test_the_arrow_lane_runs_where_a_contract_says_nothing_and_it_was_decided_so():
    found = with_lane(frozen(None), "arrow")
    assert record_lane(found) == choice.LaneChoice("arrow", "it gives the same")
    assert lane_problems(found) == []


def test_the_arrow_lane_runs_where_a_contract_asks_for_it_and_it_can():
    found = frozen("arrow", None)
    assert {name: choice.lane for name, choice in lanes(found).items()} == {"o0": "arrow", "o1": "arrow"}
    assert lane_problems(found) == []


def test_outputs_of_one_query_cannot_be_sent_to_both_lanes():
    found = frozen("arrow", "jvm")
    assert record_lane(found).lane == "jvm"
    assert [problem.at for problem in lane_problems(found)] == [("outputs", "o0", "lane")]


@pytest.mark.parametrize(
    ("own", "job", "local", "expected"),
    [
        (None, None, True, {"o1": "arrow"}),
        (None, "arrow", True, {"o1": "arrow"}),
        (None, "auto", True, {"o1": "arrow"}),
        (None, "jvm", True, {}),
        ("auto", "jvm", True, {"o1": "arrow"}),
        ("jvm", None, True, {}),
        ("arrow", None, True, {}),
        (None, None, False, {}),
        (None, "auto", False, {}),
        ("auto", None, False, {"o1": "arrow"}),
    ],
)
def test_how_a_stateful_output_is_fed_is_decided_where_nothing_else_is_said(own, job, local, expected):
    assert decided_feeds(frozen(None, own, stateful=(False, True), job=job), local=local) == expected
    rules = [{"name": "loud", "expect": "upper(s) = s"}]
    other = frozen(None, own, stateful=(False, True), job=job, source={"rules": rules})
    assert decided_feeds(other, local=local) == dict.fromkeys(expected, "jvm")


def test_a_decided_feed_is_what_runs_and_a_later_version_changes_nothing_of_it(monkeypatch):
    plain = frozen(None, None, stateful=(True, True))
    found = with_lane(plain, None, {"o0": "arrow", "o1": "jvm"})
    assert {name: stateful_lane(found, name).lane for name in ("o0", "o1")} == {"o0": "arrow", "o1": "jvm"}
    assert stateful_lane(found, "o0").why.startswith("its records are read in Arrow")
    assert "when the contract was applied" in stateful_lane(found, "o1").why
    assert lane_problems(found) == []
    assert screening_output(with_lane(plain, "arrow", {"o0": "arrow"})) == "o0"
    # Either way the rows are the same: what cannot be read in Arrow any more, Spark reads.
    monkeypatch.setattr(choice, "_not_read", lambda *_: "rule r: `x` is not known to the Arrow lane")
    assert stateful_lane(found, "o0").lane == "jvm"
    assert "rule r" in stateful_lane(found, "o0").why


@pytest.mark.parametrize("asked", [None, "auto", "jvm"])
def test_a_stateful_output_of_which_nothing_was_decided_has_the_jvm_lane_unless_it_asks_itself(asked):
    found = with_lane(frozen("arrow", asked, stateful=(False, True), job="arrow"), "arrow")
    assert {name: choice.lane for name, choice in lanes(found).items()} == {"o0": "arrow", "o1": "jvm"}
    offer = "its windows, joins and other state are Spark's; with `lane: arrow` its records are read in Arrow"
    assert lanes(found)["o1"].why == ("the contract says so" if asked == "jvm" else offer)
    assert lane_problems(found) == []


def test_nobody_is_offered_what_cannot_be():
    rules = [{"name": "loud", "expect": "upper(s) = s"}]
    found = frozen(None, stateful=(True,), source={"rules": rules})
    assert lanes(found)["o0"].why == "its windows, joins and other state are Spark's"


def test_the_records_of_a_stateful_output_are_read_in_arrow_where_it_asks_for_it():
    found = frozen("jvm", "arrow", stateful=(False, True))
    assert {name: choice.lane for name, choice in lanes(found).items()} == {"o0": "jvm", "o1": "arrow"}
    assert stateful_lane(found, "o1").why == "the contract asks for it"
    assert lane_problems(found) == []


def test_a_stateful_output_that_cannot_have_its_records_read_in_arrow_is_told_why():
    rules = [{"name": "loud", "expect": "upper(s) = s"}]
    found = frozen(None, "arrow", stateful=(False, True), source={"rules": rules})
    assert lanes(found)["o1"].lane == "jvm"
    (problem,) = lane_problems(found)
    assert problem.at == ("outputs", "o1", "lane")
    assert "its records cannot be read in Arrow: rule loud: `UPPER(s)`" in problem.message
    assert "leave `lane` out" in problem.help


def test_a_stateful_output_is_not_held_to_what_the_record_query_writes():
    """Its query writes no files in Arrow: any SQL of Spark, any target and any types will do."""
    sql = "SELECT upper(s) AS s, collect_set(n) AS n FROM a GROUP BY ALL"
    found = frozen(
        "arrow", stateful=(True,), output={"sql": sql, "to": [{"redis": "k"}]}, types=("binary", "x")
    )
    assert lanes(found)["o0"].lane == "arrow"
    assert lane_problems(found) == []


@pytest.mark.parametrize(
    ("job", "own", "expected"),
    [
        ("arrow", (None, None), "arrow"),
        ("arrow", ("jvm", "jvm"), "jvm"),
        ("jvm", ("arrow", "arrow"), "arrow"),
        ("auto", (None, None), "arrow"),
        ("auto", ("jvm", None), "jvm"),
        ("jvm", ("auto", "arrow"), "arrow"),
        ("jvm", (None, None), "jvm"),
    ],
)
def test_the_lane_of_a_pipeline_is_for_outputs_that_do_not_say_their_own(job, own, expected):
    found = frozen(*own, job=job)
    assert {choice.lane for choice in lanes(found).values()} == {expected}
    assert lane_problems(found) == []


def test_a_pipeline_cannot_send_one_output_to_arrow_beside_another_in_the_jvm():
    (problem,) = lane_problems(frozen(None, "jvm", job="arrow"))
    assert problem.at == ("job", "lane")


def test_the_lane_of_a_pipeline_is_that_of_its_records_and_leaves_its_windows_alone():
    found = frozen(None, None, job="arrow", stateful=(False, True))
    assert {name: choice.lane for name, choice in lanes(found).items()} == {"o0": "arrow", "o1": "jvm"}
    assert lane_problems(found) == []


def test_a_pipeline_of_windows_alone_has_a_lane_for_its_screening():
    found = frozen(None, job="arrow", stateful=(True,))
    assert {name: choice.lane for name, choice in lanes(found).items()} == {"records": "arrow", "o0": "jvm"}
    assert lane_problems(found) == []


def test_auto_takes_the_jvm_lane_with_the_reason_where_arrow_cannot_be():
    found = frozen("auto", output={"sql": "SELECT n, upper(s) AS s FROM a"})
    assert lane_problems(found) == []
    assert lanes(found)["o0"].lane == "jvm"
    assert lanes(found)["o0"].why == "output o0: `UPPER(s)` is not known to the Arrow lane"
    assert lanes(frozen("auto"))["o0"].lane == "arrow"


def test_a_rule_that_arrow_cannot_do_is_named_with_the_choices():
    found = frozen(None, job="arrow", source={"rules": [{"name": "loud", "expect": "upper(s) = s"}]})
    (problem,) = lane_problems(found)
    assert problem.at == ("job", "lane")
    assert "rule loud: `UPPER(s)`" in problem.message
    assert "`lane: jvm`" in problem.help
    assert "`lane: auto`" in problem.help


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"source": {"format": "text", "pattern": "(?<n>.)(?<s>.)(?=x)"}},
            "source a: the pattern has a part",
        ),
        ({"source": {"columns": [*COLUMNS, {"name": "m", "type": "decimal(10,2)"}]}}, "decimal"),
        ({"source": {"columns": [*COLUMNS, {"name": "m", "type": "array<int>"}]}}, "array<int>"),
        ({"source": {"columns": [*COLUMNS, {"name": "m", "type": "binary"}]}}, "binary"),
        (
            {"source": {"columns": [*COLUMNS, {"name": "m", "type": "timestamp", "zone": "Europe/Paris"}]}},
            "Paris",
        ),
        ({"source": {"columns": [*COLUMNS, {"name": "m", "type": "timestamp", "format": "yyyy"}]}}, "format"),
        ({"source": {"rules": [{"name": "r", "expect": "upper(s) = 'A'"}]}}, "UPPER"),
        ({"output": {"to": [{"redis": "k"}]}}, "one table"),
        ({"output": {"to": [{"delta": "x", "partition_by": ["s"]}]}}, "one table"),
        ({"output": {"sql": "SELECT n, upper(s) AS s FROM a"}}, "UPPER"),
        ({"output": {"sql": "SELECT n, s FROM a JOIN a AS b"}}, "more than SELECT"),
        ({"output": {"sql": "WITH x AS (SELECT 1) SELECT n, s FROM a"}}, "more than SELECT"),
        ({"output": {"sql": "SELECT DISTINCT n, s FROM a"}}, "more than SELECT"),
        ({"output": {"mode": "update", "key": ["n"]}}, "upserts"),
        ({"types": ("long", "string")}, "of type long in Spark"),
    ],
)
def test_what_the_arrow_lane_cannot_do_is_told_by_its_reason(change, why):
    found = frozen("arrow", **change)
    (problem,) = lane_problems(found)
    assert why in problem.message
    assert record_lane(found).lane == "jvm"
    assert why in record_lane(found).why


UPPER = {"sql": "SELECT n, upper(s) AS s FROM a"}


@pytest.mark.parametrize(
    ("words", "job", "output", "expected"),
    [
        (("auto",), None, None, "arrow"),
        (("auto",), None, UPPER, "jvm"),
        ((None,), "auto", None, "arrow"),
        (("auto", "jvm"), None, None, None),
        (("auto", "arrow"), None, None, None),
        (("arrow",), None, None, None),
        ((None,), None, None, "arrow"),
        ((None,), None, UPPER, "jvm"),
        ((None,), "jvm", None, None),
    ],
)
def test_what_auto_comes_to_is_decided_where_nothing_else_is_said(words, job, output, expected):
    assert decided_lane(frozen(*words, job=job, output=output), local=True) == expected


@pytest.mark.parametrize(("words", "expected"), [((None,), None), (("auto",), "arrow")])
def test_on_a_cluster_the_arrow_lane_runs_where_it_is_asked_for(words, expected):
    assert decided_lane(frozen(*words), local=False) == expected


def test_a_lane_that_was_decided_stays_when_more_can_be_compiled():
    found = with_lane(frozen("auto"), "jvm")
    assert lanes(found)["o0"].lane == "jvm"
    assert "when the contract was applied" in lanes(found)["o0"].why
    assert lane_problems(found) == []


@pytest.mark.parametrize("words", [("arrow",), ("auto",), (None,)])
def test_an_arrow_lane_that_was_applied_and_cannot_be_any_more_is_a_problem(words, monkeypatch):
    found = frozen(*words)
    found = with_lane(found, decided_lane(found, local=True))
    assert lane_problems(found) == []
    monkeypatch.setattr(choice, "_unsupported", lambda _: "rule r: `x` is not known to the Arrow lane")
    (problem,) = lane_problems(found)
    assert problem.at == (("outputs", "o0", "lane") if words[0] else ("job",))
    assert "rule r" in problem.message
    assert "`lane: jvm`" in problem.help
