"""What the text of a query proves about the records behind a row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from replay_world import COPY_SQL, TENS_SQL, contract
from sqlglot import exp

from headgate.contract.facts import row_positions, row_span
from headgate.contract.sql import parse_output
from headgate.errors import RefusedError
from headgate.replays.evidence import Evidence, OutputEvidence, read_evidence, way_of, ways_of

SOURCES = contract().contract.sources


def query(sql: str) -> exp.Select:
    found = parse_output(sql, SOURCES)
    assert isinstance(found, exp.Select)
    return found


@pytest.mark.parametrize(
    ("sql", "column", "span"),
    [
        (TENS_SQL, "ten", 10.0),
        (
            "SELECT window(at, '1 minute').start AS m, 1 AS n FROM orders GROUP BY window(at, '1 minute')",
            "m",
            60.0,
        ),
        (
            "SELECT window.start AS m, 1 AS n FROM orders o GROUP BY window(o.at, '1 minute', '10 seconds')",
            "m",
            60.0,
        ),
        ("SELECT at, count(*) AS n FROM orders GROUP BY at", "at", 0.0),
        (
            "SELECT date_trunc('HOUR', at) AS h, count(*) AS n FROM orders GROUP BY date_trunc('HOUR', at)",
            "h",
            3600.0,
        ),
        # The end of a window says as much, but not so; and these say nothing.
        ("SELECT window.end AS m, count(*) AS n FROM orders GROUP BY window(at, '1 minute')", "m", None),
        ("SELECT window.start AS m, 1 AS n FROM orders GROUP BY window(_arrival, '1 minute')", "m", None),
        ("SELECT window.start AS m, 1 AS n FROM orders GROUP BY session_window(at, '1 minute')", "m", None),
        ("SELECT max(at) AS m, amount FROM orders GROUP BY amount", "m", None),
        ("SELECT _arrival AS m, count(*) AS n FROM orders GROUP BY _arrival", "m", None),
        (TENS_SQL, "n", None),
    ],
)
def test_a_row_stands_for_event_times_only_where_the_text_proves_it(sql, column, span):
    assert row_span(query(sql), column, SOURCES) == span


@pytest.mark.parametrize(
    ("sql", "positions"),
    [
        (COPY_SQL, {"_partition": "part", "_offset": "place"}),
        (
            "SELECT _topic, o._partition, _offset FROM orders o",
            {n: n for n in ("_topic", "_partition", "_offset")},
        ),
        ("SELECT _partition, _offset + 1 AS _offset FROM orders", {}),
        ("SELECT _offset AS place FROM orders", {}),
        ("SELECT _partition, _offset FROM (SELECT 0 AS _partition, 1 AS _offset FROM orders) AS o", {}),
        ("SELECT at, amount FROM orders", {}),
    ],
)
def test_a_row_names_its_record_only_where_the_text_proves_it(sql, positions):
    assert row_positions(query(sql), SOURCES) == positions


def kinds(mine, live):
    return {way.table: way.kind for way in ways_of(mine, live, [live])}


def test_each_table_is_told_apart_by_records_or_by_windows():
    frozen = contract()
    assert kinds(frozen, frozen) == {"copy": "records", "tens": "windows", "_quarantine": "records"}


@pytest.mark.parametrize(
    ("table", "change", "why"),
    [
        ("copy", {"copy": "SELECT at, amount FROM orders"}, "select `_partition` and `_offset`"),
        (
            "tens",
            {"tens": "SELECT amount AS ten, 1 AS n FROM orders GROUP BY amount"},
            "not windows of the event time",
        ),
        (
            "own",
            {"own": {"python": "a:b", "mode": "update", "key": ["k"], "to": [{"delta": "own"}]}},
            "from Python",
        ),
    ],
)
def test_what_cannot_be_told_apart_says_why(table, change, why):
    frozen = contract(**change)
    found = next(way for way in ways_of(frozen, frozen, [frozen]) if way.table == table)
    assert found.kind == ""
    assert why in found.why


def test_windows_that_are_written_at_their_close_are_compared_and_not_swapped():
    frozen = contract(last={"sql": TENS_SQL, "to": [{"delta": "last"}]})
    resolved = replace(frozen.outputs["last"], event_time="ten", window_seconds=10.0)
    frozen = replace(frozen, outputs={**frozen.outputs, "last": resolved})
    found = next(way for way in ways_of(frozen, frozen, []) if way.table == "last")
    assert (found.kind, found.column, found.closes, found.why) == ("windows", "ten", True, "")


def test_what_two_contracts_tie_to_records_in_two_ways_proves_nothing():
    swapped = contract(copy="SELECT at, amount, _partition AS place, _offset AS part FROM orders")
    ways = {way.table: way.why for way in ways_of(swapped, contract(), [contract()])}
    assert "in another way" in ways["copy"]
    assert ways["tens"] == ""


LONGER = {"tens": TENS_SQL.replace("10 seconds", "20 seconds")}


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ({"at": {"zone": "Europe/Paris"}}, {"tens"}),
        ({"at": {"format": "dd/MM/yyyy HH:mm:ss"}}, {"tens"}),
        ({"at": {"required": False, "description": "when"}}, set()),
        (LONGER, {"tens"}),
        ({"copy": COPY_SQL.replace("_offset", "_offset + 1")}, {"copy"}),
        ({"copy": COPY_SQL.replace("orders", "others"), "beside": "others"}, {"copy"}),
        ({"beside": "others"}, set()),
    ],
)
def test_rows_that_an_earlier_contract_may_have_written_in_another_way_prove_nothing(change, tables):
    last, earlier = contract(version=2), contract(**change)
    found = {way.table for way in ways_of(last, last, [earlier, last]) if way.why}
    assert found == tables
    whys = [way.why for way in ways_of(last, last, [last, earlier]) if way.why]
    assert all(f"version 1 of the contract ({earlier.hash[:12]})" in why for why in whys)


def test_a_table_counts_whatever_its_output_was_called_once():
    earlier = contract(copied={"sql": "SELECT at, amount FROM orders", "to": [{"delta": "copy"}]})
    assert {way.table for way in ways_of(contract(), contract(), [earlier]) if way.why} == {"copy"}


@pytest.mark.parametrize(
    ("sql", "tumbles"),
    [
        (TENS_SQL, True),
        (TENS_SQL.replace("'10 seconds'", "'10 seconds', '5 seconds'"), False),
        ("SELECT date_trunc('HOUR', at) AS ten, 1 AS n FROM orders GROUP BY date_trunc('HOUR', at)", True),
        ("SELECT date_trunc('WEEK', at) AS ten, 1 AS n FROM orders GROUP BY date_trunc('WEEK', at)", False),
    ],
)
def test_where_windows_begin_is_known_only_of_those_that_follow_one_another(sql, tumbles):
    way = way_of(contract(tens=sql), "tens", "tens")
    assert (way.kind, way.tumbles, way.topic) == ("windows", tumbles, "orders")


@pytest.mark.parametrize("text", ["{}", "[]", '{"lineage": 1, "at": 2, "outputs": {"a": 3}}', "{"])
def test_a_damaged_file_is_no_evidence_and_says_what_helps(tmp_path, text):
    path = tmp_path / "r1" / "evidence.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RefusedError) as caught:
        read_evidence(path)
    assert "headgate replay discard r1" in str(caught.value)


def test_evidence_survives_its_file():
    found = Evidence("1-a", 2.0, {"tens": OutputEvidence(((1, 2), (5, 9)), 7), "x": OutputEvidence(why="no")})
    assert Evidence.from_json(found.to_json()) == found
