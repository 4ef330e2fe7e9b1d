"""When a driver is warmed in reserve, for whom, and when it is not."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_world import ALICE, HASH

from headgate.settings import load_settings
from headgate.streams import orders, processes
from headgate.streams.journal import Journal
from headgate.streams.model import Desired, Phase
from headgate.streams.record import StreamRecord
from headgate.streams.spare_process import start_spare
from headgate.streams.spares import Spares, memory_wanted, room_left

PLENTY = 64 * 1024**3


def running(stream: str, *, since: float = 0.0, **changes: object) -> StreamRecord:
    record, _ = orders.ensure(None, stream=stream, pipeline=stream, contract_hash=HASH, owner=ALICE, now=0.0)
    at_work = replace(record, phase=Phase.RUNNING, epoch=1, attempted=1, phase_since=since)
    return replace(at_work, **changes)  # type: ignore[arg-type]


def wanted(*records: StreamRecord, sizes: dict[str, str] | None = None, now: float = 100.0) -> str | None:
    known = sizes or {}
    return memory_wanted(records, lambda record: known.get(record.stream, "1g"), quiet=30.0, now=now)


def test_a_spare_is_made_when_all_that_is_wanted_runs_quietly() -> None:
    assert wanted() is None, "nobody would need it"
    assert wanted(running("a")) == "1g"
    assert wanted(running("a", since=80.0)) is None, "it has only just come up"
    assert wanted(running("a"), running("b", phase=Phase.STARTING)) is None
    assert wanted(running("a"), running("b", phase=Phase.BACKOFF)) is None
    assert wanted(running("a"), running("b", attempted=0)) is None, "a newer order is about to start it"
    assert wanted(running("a"), running("b", phase=Phase.PARKED)) == "1g", "that one waits for a person"
    stopped = running("b", phase=Phase.STOPPED, desired=Desired.STOPPED)
    assert wanted(running("a"), stopped) == "1g"
    assert wanted(stopped) is None


def test_it_has_the_memory_that_most_streams_ask_for() -> None:
    sizes = {"a": "1g", "b": "512m", "c": "1g"}
    assert wanted(*map(running, sizes), sizes=sizes) == "1g"
    assert wanted(running("a"), running("b"), sizes=sizes) == "1g", "the larger of two"
    assert memory_wanted([running("a")], lambda _: None, quiet=0.0, now=9.0) is None, (
        "its contract is unknown"
    )


@given(st.permutations(["2g", "2g", "700m", "3g"]))
def test_the_order_of_the_streams_does_not_matter(sizes: list[str]) -> None:
    names = [f"s{n}" for n in range(len(sizes))]
    assert wanted(*map(running, names), sizes=dict(zip(names, sizes, strict=True))) == "2g"


def test_there_is_room_on_this_machine() -> None:
    assert room_left() > 0


class Reserve:
    """Spares of a stand-in that is warm at once."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.settings, _ = load_settings(environ={"HEADGATE_HOME": str(home), **environ})
        self.written = StringIO()
        self.room = PLENTY
        self.now = 0.0
        self.code = "import socket, sys; s = socket.socket(fileno=int(sys.argv[-1]));"
        self.code += "s.sendall(b'ready\\n'); s.recv(1)"
        self.spares = Spares(
            self.settings,
            Journal(self.written),
            command=self.command,
            room=lambda: self.room,
            monotonic=lambda: self.now,
        )

    def command(self, memory: str) -> list[str]:
        return [sys.executable, "-c", self.code, memory]

    def until(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not look():
            assert time.monotonic() < deadline, self.written.getvalue()
            self.spares.tend("1g")
            time.sleep(0.02)

    def states(self) -> list[str]:
        return [json.loads(line)["state"] for line in self.written.getvalue().splitlines()]


@pytest.fixture
def reserve(tmp_path: Path) -> Iterator[Reserve]:
    made = Reserve(tmp_path)
    yield made
    made.spares.give_up("the test ends")


def test_a_spare_is_offered_once_it_is_warm_and_to_those_whose_memory_it_has(reserve: Reserve) -> None:
    reserve.until(lambda: reserve.spares.state == "ready")
    nonce = reserve.spares.offer("1g")
    assert nonce is not None
    assert reserve.spares.offer("2g") is None
    assert reserve.spares.offer("1g") == nonce, "asking for another one does not end it"
    assert reserve.states() == ["warming", "ready"]


def test_a_spare_gives_way_when_streams_ask_for_another_memory(reserve: Reserve) -> None:
    reserve.until(lambda: reserve.spares.state == "ready")
    first = reserve.spares.offer("1g")
    reserve.spares.tend("2g")
    assert reserve.spares.state == "warming"
    assert reserve.states()[2] == "none: streams ask for 2g of memory, it has 1g"
    reserve.until(lambda: reserve.spares.state == "ready" and reserve.spares.offer("1g") is not None)
    assert reserve.spares.offer("1g") != first


def test_a_spare_that_was_planned_with_and_not_told_is_nobodys_any_more(reserve: Reserve) -> None:
    reserve.until(lambda: reserve.spares.state == "ready")
    reserve.spares.settle()
    assert reserve.spares.state == "ready", "nobody has planned with it"
    assert reserve.spares.offer("1024m") is not None, "as much as 1g"
    reserve.spares.settle()
    assert (reserve.spares.state, reserve.spares.offer("1g")) == ("none: its stream did not start", None)


def test_a_spare_of_older_code_is_not_used(reserve: Reserve) -> None:
    reserve.until(lambda: reserve.spares.state == "ready")
    jars = reserve.settings.jars_dir
    jars.mkdir(parents=True, exist_ok=True)
    (jars / "new.jar").touch()
    assert reserve.spares.offer("1g") is None
    assert reserve.spares.state == "none: the code has changed since it was started"


def test_a_spare_goes_when_memory_is_short_or_a_larger_stream_needs_it(reserve: Reserve) -> None:
    reserve.until(lambda: reserve.spares.state == "ready")
    reserve.room = 2 * 1024**3
    reserve.spares.tend("1g")
    assert reserve.spares.state == "ready"
    assert reserve.spares.offer("4g") is None
    assert reserve.spares.state == "none: a stream with 4g of memory needs the room"
    reserve.now, reserve.room = 61.0, PLENTY
    reserve.until(lambda: reserve.spares.state == "ready")
    reserve.room = 100 * 1024**2
    reserve.spares.tend("1g")
    assert reserve.spares.state == "none: 100 MiB of memory are free"
    assert list((reserve.settings.state / "spares").iterdir()) == []


def test_what_another_supervisor_left_is_ended_and_what_became_a_driver_is_not(reserve: Reserve) -> None:
    folder = reserve.settings.state / "spares"
    left, taken = (start_spare(reserve.settings, [*reserve.command("1g")], "1g") for _ in range(2))
    reserve.until(lambda: left.look() and taken.look())
    processes.note_mark(reserve.settings.state / "streams" / "s", taken.nonce)
    left.runner.send_signal(signal.SIGSTOP)
    (folder / f"{left.nonce}.work").mkdir()
    reserve.spares.sweep()
    assert processes.remains(left.nonce) == []
    assert left.runner.wait(10) == -signal.SIGKILL
    assert len(processes.remains(taken.nonce)) == 1
    assert [path.name for path in folder.iterdir()] == [taken.log.name]
    left.end()
    taken.end()


def test_a_machine_without_room_keeps_none_and_is_looked_at_again(reserve: Reserve) -> None:
    reserve.room = 1024**3
    reserve.spares.tend("1g")
    assert reserve.spares.state == "none: 1024 MiB of memory are free, 2560 MiB are needed"
    reserve.room = PLENTY
    reserve.spares.tend("1g")
    assert reserve.spares.state.startswith("none")
    reserve.now = 61.0
    reserve.until(lambda: reserve.spares.state == "ready")


def test_one_that_cannot_be_warmed_is_tried_ever_later(reserve: Reserve) -> None:
    reserve.code = "raise SystemExit('told why')"
    for pause in (10.0, 20.0, 40.0):
        reserve.until(lambda: reserve.spares.state.startswith("none: it ended by itself"))
        reserve.now += pause - 1
        reserve.spares.tend("1g")
        assert reserve.spares.state.startswith("none"), f"not before {pause} s"
        assert "told why" in (reserve.settings.state / "spares" / "failed.log").read_text()
        reserve.now += 1
        reserve.spares.tend("1g")
        assert reserve.spares.state == "warming"


@pytest.mark.parametrize(
    "environ",
    [{"HEADGATE_SUPERVISOR_SPARE_DRIVER": "false"}, {"HEADGATE_SPARK_MASTER": "spark://127.0.0.1:7077"}],
)
def test_there_is_none_where_it_is_switched_off_or_spark_is_a_cluster(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    reserve = Reserve(tmp_path, **environ)
    reserve.spares.tend("1g")
    assert (reserve.spares.state, reserve.spares.offer("1g")) == ("none: switched off", None)
