"""Replays as processes: started, found, started again, ended; each by what any supervisor can see."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from replay_world import make_world

from headgate.errors import StoreUnavailable
from headgate.local.drivers import live_drivers
from headgate.replays import keeper as keeper_module
from headgate.replays.keeper import ReplayKeeper
from headgate.replays.model import KIND, find_replays, write_note
from headgate.streams import processes
from headgate.streams.journal import Journal
from headgate.streams.operations import IllegalOperation, note, operation_of
from headgate.streams.policy import Policy
from headgate.streams.store import StateStore

# A driver without Spark: it does what the file `behaviour` says, and reports as a real one does.
DRIVER = """
import json, os, signal, sys, time
from headgate.streams.model import DriverStatus
folder, epoch = sys.argv[1], int(sys.argv[2])
def report(phase):
    status = DriverStatus("r1", "shop", epoch, 0, "ab", "1-a", "0", os.getpid(), phase, time.time())
    open(folder + "/draft", "w").write(json.dumps(status.to_json()))
    os.replace(folder + "/draft", folder + "/status.json")
def stop(*_):
    report("stopped"); os._exit(0)
signal.signal(signal.SIGTERM, stop)
open(folder + "/starts", "a").write(f"{epoch}\\n")
report("running")
while True:
    what = open(folder + "/behaviour").read()
    if what == "end":
        report("done"); sys.exit(0)
    if what == "die" and epoch == 1:
        os.kill(os.getpid(), 9)
    time.sleep(0.02)
"""


class Place:
    def __init__(self, home: Path) -> None:
        self.world = make_world(home)
        self.folder = self.world.own.folder
        self.store = StateStore(f"sqlite:///{home}/store.db")
        self.suspended = False
        self.at = 1.0
        self.keepers: list[ReplayKeeper] = []

    def keeper(self) -> ReplayKeeper:
        self.keepers.append(self._keeper())
        return self.keepers[-1]

    def _keeper(self) -> ReplayKeeper:
        return ReplayKeeper(
            self.world.settings,
            self.store,
            lambda: True,
            Journal(),
            suspended=lambda: self.suspended,
            command=lambda _, epoch: [sys.executable, "-c", DRIVER, str(self.folder), str(epoch)],
            policy=Policy(backoff_base=0.01),
        )

    def behave(self, what: str) -> None:
        (self.folder / "behaviour").write_text(what)

    def ask(self, state: str) -> None:
        self.at += 1.0
        note(self.store, "shop", KIND, "r1", state, actor="cli:tests", at=self.at)

    @property
    def state(self) -> Any:
        found = operation_of(self.store, "shop", KIND, "r1")
        return found.state if found is not None else None

    def until(self, keeper: ReplayKeeper, what: Any) -> None:
        limit = time.monotonic() + 60
        while not what():
            assert time.monotonic() < limit, self.state
            keeper.look()
            time.sleep(0.02)

    def starts(self) -> list[str]:
        path = self.folder / "starts"
        return path.read_text().split() if path.exists() else []

    def alive(self) -> list[str]:
        return [each.stream for each in live_drivers(self.world.settings.state)]


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    yield found
    prefix = processes.nonce_prefix(found.folder)
    while processes.kill_all(prefix, runners=True):
        time.sleep(0.02)
    for memory in (each for keeper in found.keepers for each in keeper._memories.values()):
        if memory.child is not None:
            memory.child.wait(60)
    found.store.close()


def test_a_replay_whose_driver_is_killed_goes_on_and_comes_to_its_end(place):
    place.behave("die")
    place.ask("requested")
    keeper = place.keeper()
    place.until(keeper, lambda: place.starts() == ["1", "2"])
    assert place.state == "running"
    place.behave("end")
    place.until(keeper, lambda: place.state == "done")
    keeper.look()
    assert place.starts() == ["1", "2"]


def test_another_supervisor_finds_what_runs_and_starts_nothing_beside_it(place):
    place.behave("run")
    place.ask("requested")
    place.until(place.keeper(), lambda: place.starts() == ["1"])
    other = place.keeper()
    for _ in range(5):
        other.look()
    assert place.starts() == ["1"]
    place.behave("end")
    place.until(other, lambda: place.state == "done")


def test_a_suspended_platform_ends_its_driver_in_order_and_goes_on_with_it_later(place):
    place.behave("run")
    place.ask("requested")
    keeper = place.keeper()
    place.until(keeper, lambda: place.starts() == ["1"])
    place.suspended = True
    place.until(keeper, lambda: place.alive() == [])
    keeper.look()
    assert json.loads((place.folder / "status.json").read_text())["phase"] == "stopped"
    place.suspended = False
    place.until(keeper, lambda: place.starts() == ["1", "2"])
    place.behave("end")
    place.until(keeper, lambda: place.state == "done")


def test_a_discarded_replay_ends_loses_its_tables_and_is_remembered(place):
    place.behave("run")
    place.ask("requested")
    keeper = place.keeper()
    place.until(keeper, lambda: place.alive() == ["r1"])
    place.ask("discarding")
    place.until(keeper, lambda: place.state == "discarded")
    assert place.alive() == []
    assert [path.name for path in place.folder.iterdir()] == ["replay.json"]
    assert [each.id for each in find_replays(place.world.settings.state, "shop")] == ["r1"]
    assert place.world.live("copy").is_dir()
    with pytest.raises(IllegalOperation):
        place.ask("running")


def swapping(place):
    for state in ("requested", "running", "done", "swapping"):
        place.ask(state)


@pytest.mark.parametrize(
    ("noted", "state", "detail"),
    [
        ({"state": "done", "swapped": ["copy"], "refusals": []}, "swapped", ""),
        ({"state": "refused", "swapped": [], "refusals": ["a", "b"]}, "done", "not swapped: a; b"),
        ({"state": "partial", "swapped": ["copy"], "refusals": ["a"]}, "done", "swapped in part: a"),
    ],
)
def test_what_the_live_driver_noted_ends_the_swap(place, noted, state, detail):
    swapping(place)
    keeper = place.keeper()
    keeper._wall = lambda: place.at + 1
    # By generations: the clock of the driver's machine may be another one.
    write_note(place.world.own.ordered, {"after": 4})
    write_note(place.world.own.swap, {**noted, "generation": 4, "at": place.at + 90})
    keeper.look()
    assert place.state == "swapping", "this was an earlier swap"
    begun = {"state": "begun", "swapped": [], "refusals": []}
    write_note(place.world.own.swap, {**begun, "generation": 5, "at": place.at - 90})
    keeper.look()
    assert place.state == "swapping", "a driver is at it"
    write_note(place.world.own.swap, {**noted, "generation": 5, "at": place.at - 90})
    keeper.look()
    found = operation_of(place.store, "shop", KIND, "r1")
    assert (found.state, found.detail) == (state, detail)


def test_a_swap_whose_order_was_replaced_is_given_up(place):
    swapping(place)
    keeper = place.keeper()
    keeper._wall = lambda: place.at + 5
    keeper.look()
    assert place.state == "swapping"
    keeper._wall = lambda: place.at + 60
    keeper.look()
    assert place.state == "done"


@pytest.mark.parametrize("half", [False, True])
def test_a_swap_that_was_cut_off_and_replaced_is_given_up_only_where_it_has_changed_nothing(
    place, monkeypatch, half
):
    monkeypatch.setattr(keeper_module, "half_done", lambda *_: half)
    swapping(place)
    write_note(place.world.own.swap, {"state": "begun", "swapped": [], "refusals": [], "generation": 5})
    keeper = place.keeper()
    keeper._wall = lambda: place.at + 60
    keeper.look()
    found = operation_of(place.store, "shop", KIND, "r1")
    assert (found.state, "half done" in found.detail) == (("swapping", True) if half else ("done", False))


def test_a_damaged_replay_is_told_and_keeps_no_other_from_running(place, capsys):
    note(place.store, "other", KIND, "gone", "requested", actor="cli:tests", at=0.5)
    place.behave("end")
    place.ask("requested")
    place.until(place.keeper(), lambda: place.state == "done")
    assert "there is no replay 'gone'" in capsys.readouterr().out


def test_a_torn_exit_note_is_no_note_and_is_told_once(place, capsys):
    (place.folder / "runner-1.lock").touch()
    (place.folder / "exit-1.json").write_text("{")
    place.behave("run")
    place.ask("requested")
    keeper = place.keeper()
    place.until(keeper, lambda: place.starts() == ["2"])
    place.behave("end")
    place.until(keeper, lambda: place.state == "done")
    assert capsys.readouterr().out.count("replay trouble") == 1


@pytest.mark.parametrize("error", [KeyError("kind"), StoreUnavailable("away")], ids=["ours", "store"])
def test_whatever_a_look_meets_the_next_one_comes_and_its_age_is_seen(place, monkeypatch, capsys, error):
    place.ask("discarding")
    keeper = place.keeper()
    keeper._wall = lambda: 50.0
    before = keeper.looked_at

    def broken(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(keeper_module, "operations_in", broken)
        keeper.look()
        keeper.look()
    assert (place.state, keeper.looked_at) == ("discarding", before)
    assert capsys.readouterr().out.count("replays wait") == 1
    keeper.look()
    assert (place.state, keeper.looked_at) == ("discarded", 50.0)


def test_a_runner_that_ends_before_its_lock_is_started_later_and_later(place, monkeypatch):
    clock, starts = [1000.0], []

    def spawn(launch):
        starts.append((launch.incarnation.epoch, clock[0]))
        ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
        ended.wait()
        return ended

    monkeypatch.setattr(processes, "spawn", spawn)
    place.ask("requested")
    keeper = place.keeper()
    keeper._wall = lambda: clock[0]
    while clock[0] < 1060.0:
        keeper.look()
        clock[0] += 0.5
    assert {epoch for epoch, _ in starts} == {1}
    assert 3 <= len(starts) <= 10
    found = operation_of(place.store, "shop", KIND, "r1")
    assert f"try {len(starts)}: no runner of it came up" in found.detail


def test_the_log_of_a_replay_is_rotated_as_a_streams_is(place, monkeypatch):
    seen = []
    monkeypatch.setattr(keeper_module, "rotate", lambda log: seen.append(log) or False)
    place.behave("run")
    place.ask("requested")
    keeper = place.keeper()
    place.until(keeper, lambda: place.alive() == ["r1"])
    keeper.look()
    assert seen.count(place.world.own.log) >= 2, "at its start, and while it runs"
    place.behave("end")
    place.until(keeper, lambda: place.state == "done")
