from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.cli.main import run
from headgate.errors import UsageError
from headgate.failpoints import BOUNDARIES
from headgate.streams.model import Event, Phase
from headgate.torture.feeder import Feed
from headgate.torture.outcome import Outcome, first_at
from headgate.torture.proof import Proof, Sizes
from headgate.torture.run import Report, Request, boundaries_of, feeds_of

DELTA, REDIS = SimpleNamespace(delta="t", redis=None), SimpleNamespace(delta=None, redis="k")


def place(record: list[Any], stateful: list[Any], sources: int = 1) -> Any:
    outputs = {"passed": SimpleNamespace(to=record), "counted": SimpleNamespace(to=stateful)}
    names = [f"s{number}" for number in range(sources)]
    contract = SimpleNamespace(
        outputs=outputs, sources={name: SimpleNamespace(partitions=3, with_schema=False) for name in names}
    )
    frozen = SimpleNamespace(
        contract=contract,
        topics={name: f"topic-{name}" for name in names},
        record_outputs=["passed"] if record else [],
        stateful_outputs=["counted"] if stateful else [],
    )
    return SimpleNamespace(frozen=frozen, stream="p")


def test_a_pipeline_with_every_kind_of_output_reaches_every_boundary() -> None:
    assert boundaries_of(place([DELTA, REDIS], [DELTA, REDIS])) == list(BOUNDARIES)


def test_boundaries_that_a_pipeline_has_no_sink_for_are_left_out() -> None:
    found = boundaries_of(place([DELTA], []))
    assert not any(name.startswith("stateful") or name.endswith("redis") for name in found)
    assert {"records.gate", "records.after_delta", "records.before_quarantine"} <= set(found)
    assert "records.before_delta" not in boundaries_of(place([], [REDIS]))
    assert "stateful.after_redis" in boundaries_of(place([], [REDIS]))


def test_a_files_lines_are_sent_once_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a\nb\nc\n")
    (feed,) = feeds_of(place([DELTA], []), Request("p", 1, 5, 10, file))
    sent: list[bytes] = []
    while not feed.done:
        feed.sent.extend(feed.next(more=True))
        sent = feed.sent
    assert sent == [b"a", b"b", b"c"]
    assert feed.next(more=True) == []


@pytest.mark.parametrize(
    ("content", "sources", "what"), [(b"", 1, "holds no line"), (b"a\n", 2, "2 sources")]
)
def test_a_file_that_cannot_feed_the_pipeline_is_a_usage_error(
    tmp_path: Path, content: bytes, sources: int, what: str
) -> None:
    file = tmp_path / "lines"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=what):
        feeds_of(place([DELTA], [], sources), Request("p", 1, 5, 10, file))


def test_made_records_go_on_while_they_are_wanted_and_then_stop_at_the_number_asked_for() -> None:
    feed = Feed("t", 1, lambda number: str(number).encode(), total=10, endless=True, chunk=4)
    feed.sent.extend(feed.next(more=False))
    feed.sent.extend(feed.next(more=False))
    assert list(feed.next(more=False)) == [b"8", b"9"]
    feed.sent.extend(feed.next(more=False))
    assert feed.done
    assert list(feed.next(more=True)) == [b"10", b"11", b"12", b"13"]
    assert list(feed.next(more=False)) == []


@pytest.mark.parametrize("arguments", [["--kills", "-1"], ["--records", "0"], ["--from-file", "/nowhere/x"]])
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str]) -> None:
    assert run(["torture", "p", *arguments]) == 64


FAULTS = (
    Outcome("kill driver", 1.0, 0.5, 9.0, sigkill=True),
    Outcome("kill at failpoint: records.gate", 5.0, 0.75, 8.0, sigkill=True),
    Outcome("restart broker", 12.0, None, 3.0, "kill -9"),
    Outcome("disk full", 15.0, 7.5, 3.0),
    Outcome("kill supervisor", 20.0, None, 1.0, adopted=2.25),
    Outcome("kill supervisor", 24.0, None, 1.0, adopted=1.5),
)


def of(faults: tuple[Outcome, ...]) -> Report:
    return Report("p", 1, 0, Sizes(0, 0, 0, {}), faults, (), 1.0, None)


def test_the_slowest_seeing_of_a_kill_and_the_slowest_adoption_are_in_the_report() -> None:
    assert of(FAULTS).to_json()["slowest"] == {"kill_seen": 0.75, "adopted": 2.25}
    assert of(FAULTS[2:4]).to_json()["slowest"] == {"kill_seen": None, "adopted": None}
    assert [each["adopted"] for each in of(FAULTS).to_json()["faults"]][-2:] == [2.25, 1.5]


def test_a_death_is_seen_by_the_first_event_after_it_that_ends_in_backoff() -> None:
    def happened(at: float, target: Phase) -> Event:
        return Event(1, at, "s", "transition", "running", str(target), "failed", "driver", 1, 1)

    events = [happened(1.0, Phase.BACKOFF), happened(4.0, Phase.STARTING), happened(6.0, Phase.BACKOFF)]
    wanted = [*events, happened(9.0, Phase.BACKOFF)]
    assert first_at(wanted, 2.0, lambda each: each.to_phase == Phase.BACKOFF) == 6.0
    assert first_at(events, 7.0, lambda each: each.to_phase == Phase.BACKOFF) is None


@pytest.mark.parametrize(("problem", "code"), [("", 0), ("1 rows missing", 1)])
def test_the_command_shows_seed_faults_and_proofs_and_exits_by_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problem: str, code: int
) -> None:
    report = Report(
        "p",
        42,
        100,
        Sizes(100, 90, 10, {"positive": 10}),
        FAULTS,
        (Proof("every record was read once", ""), Proof("output o: Redis", problem)),
        60.0,
        Path("/kept") if problem else None,
    )
    monkeypatch.setattr("headgate.torture.run.torture", lambda *_: report)
    assert run(["torture", "p", "--seed", "42"]) == code
    shown = capsys.readouterr()
    assert "seed 42" in shown.out
    assert "kill driver" in shown.out
    assert "9.0 s" in shown.out
    told = " ".join(shown.out.split())
    assert "seen after 0.8 s, the driver adopted 2.2 s after its supervisor's return" in told
    assert ("BROKEN  output o: Redis" in shown.out) is bool(problem)
    assert ("/kept" in shown.err) is bool(problem)
