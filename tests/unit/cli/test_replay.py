"""`headgate replay`: what is asked, what is refused, and what is ordered."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from replay_world import make_world

from headgate.cli import replay as replay_module
from headgate.cli import replay_ends
from headgate.cli.main import run
from headgate.replays import planning
from headgate.replays.model import KIND, find_replays, read_note, write_note
from headgate.replays.ranges import PartitionRange
from headgate.streams.model import Desired, DriverStatus, Phase, StreamStatus
from headgate.streams.operations import note, operation_of
from headgate.streams.store import StateStore
from headgate.topics import back

DRIVER = DriverStatus("shop", "shop", 3, 2, "ab" * 32, "1-a", "1", 1, "running", 1.0)
STATUS = StreamStatus("shop", "shop", Phase.RUNNING, Desired.RUNNING, 2, 3, "ab" * 32, driver=DRIVER)


class Client:
    """A supervisor whose keeper answers at once."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.now = STATUS
        self.after: Any = lambda: None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def health(self) -> dict[str, Any]:
        return {}

    def status(self, _pipeline: str) -> StreamStatus:
        return self.now

    def restart(self, _pipeline: str, **order: Any) -> StreamStatus:
        self.orders.append(order)
        self.after()
        return STATUS


class Place:
    def __init__(self, world: Any) -> None:
        self.world = world
        self.client = Client()

    def move(self, *states: str) -> None:
        with closing(StateStore(self.world.settings.store_url)) as store:
            for at, state in enumerate(states):
                note(store, "shop", KIND, "r1", state, actor="supervisor", at=float(at))

    def state(self, id: str = "r1") -> str | None:
        with closing(StateStore(self.world.settings.store_url)) as store:
            found = operation_of(store, "shop", KIND, id)
        return found.state if found is not None else None


@pytest.fixture
def place(tmp_path, monkeypatch):
    found = Place(make_world(tmp_path))
    (found.world.settings.state).mkdir(exist_ok=True)
    for module in (replay_module, replay_ends):
        monkeypatch.setattr(module, "read_settings", lambda: found.world.settings)
        monkeypatch.setattr(module, "supervisor_client", lambda _: found.client)
    monkeypatch.setattr(planning, "topics_changed", lambda *_: [])
    monkeypatch.setattr(back, "running_contract", lambda *_: "another")
    monkeypatch.setattr(planning, "plan_replay", lambda *_, **__: planned(found.world))
    return found


def planned(world: Any, *problems: str) -> Any:
    ranges = (PartitionRange("orders", 0, 20, 80, 0, 100),)
    asked = replace(world.replay, id="r2", asked_at=9.0)
    folder = world.own.folder.with_name("r2")
    return planning.ReplayPlan(asked, ranges, folder, ("copy",), ("a note",), problems)


START = ["replay", "start", "shop", "--from", "earliest"]


def test_nothing_is_ordered_without_yes_and_what_would_be_is_said(place, capsys):
    assert run(START) == 3
    told = capsys.readouterr()
    assert "60 records" in told.out
    assert "a note" in told.out
    assert "give --yes" in told.err
    assert run([*START, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["partitions"][0]["records"] == 60
    assert place.state("r2") is None
    assert len(find_replays(place.world.settings.state)) == 1


def test_an_order_is_written_down_with_its_range_and_its_tables(place):
    assert run([*START, "--yes"]) == 0
    assert place.state("r2") == "requested"
    found = find_replays(place.world.settings.state)[0]
    assert (found.id, found.end) == ("r2", {"orders": {0: 80}})
    assert (place.world.own.folder.with_name("r2") / "tables" / "shop" / "_quarantine").is_dir()


def test_a_range_that_is_not_there_is_refused_even_with_yes(place, monkeypatch, capsys):
    gone = planned(place.world, "the records 3 to 9 are gone")
    monkeypatch.setattr(planning, "plan_replay", lambda *_, **__: gone)
    assert run([*START, "--yes"]) == 3
    assert "the records 3 to 9 are gone" in capsys.readouterr().err
    assert place.state("r2") is None


@pytest.mark.parametrize("words", [["--from", "yesterday"], ["--from", "earliest", "--to", "offsets"], []])
def test_what_says_no_place_is_a_usage_error(place, words):
    assert run(["replay", "start", "shop", *words]) == 64


def test_status_and_list_say_how_far_it_is(place, capsys):
    place.move("requested", "running")
    assert run(["replay", "status", "r1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["share"], found["queries"][0]["of"]) == ("running", 0.0, 60)
    assert run(["replay", "list"]) == 0
    assert "r1" in capsys.readouterr().out
    assert run(["replay", "list", "other"]) == 0
    assert "there is no replay" in capsys.readouterr().err
    assert run(["replay", "status", "nothing"]) == 4


def test_a_comparison_says_by_its_exit_code_whether_the_two_agree(place, capsys):
    place.move("requested", "running")
    assert run(["replay", "compare", "r1"]) == 3
    place.move("done")
    assert run(["replay", "compare", "r1"]) == 0
    place.world.own.evidence.unlink()
    capsys.readouterr()
    assert run(["replay", "compare", "r1"]) == 2
    assert "tens is not compared" in capsys.readouterr().out


def test_a_swap_says_what_it_replaces_and_orders_the_stream_to_carry_it_out(place, capsys):
    place.move("requested", "running", "done")
    assert run(["replay", "swap", "r1"]) == 3
    assert place.client.orders == []
    told = capsys.readouterr()
    assert "54" in told.out
    assert "the live stream runs another" in told.err
    place.client.after = lambda: place.move("swapped")
    assert run(["replay", "swap", "r1", "--yes", "--table", "copy", "--table", "_quarantine"]) == 0
    origin = place.client.orders[0]["origin"]
    assert (origin.kind, origin.replay, origin.tables) == ("checkpoint", "r1", ("copy", "_quarantine"))
    assert place.client.orders[0].get("contract_hash") is None
    assert place.state() == "swapped"
    # What a later generation notes is the answer.
    assert read_note(place.world.own.ordered) == {"after": STATUS.generation}


@pytest.mark.parametrize(
    ("phase", "reason", "told"),
    [
        (Phase.RUNNING, "", "the stream is running, stops and goes on with contract abababababab"),
        (Phase.STOPPED, "", "the stream is stopped and will be STARTED with contract abababababab"),
        (Phase.PARKED, "poison", "the stream is parked (poison) and will be STARTED with contract abab"),
    ],
)
def test_a_swap_says_what_it_does_to_the_stream_before_it_is_agreed_to(place, capsys, phase, reason, told):
    place.move("requested", "running", "done")
    place.client.now = replace(STATUS, phase=phase, reason=reason)
    assert run(["replay", "swap", "r1"]) == 3
    assert told in " ".join(capsys.readouterr().err.split())
    assert place.client.orders == []


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1), ("running", 1), ("discarding", 1)])
def test_a_replay_that_is_waited_for_is_good_only_when_it_is_done(place, monkeypatch, capsys, state, code):
    ended = SimpleNamespace(state=state, detail="why")
    monkeypatch.setattr(replay_module, "await_state", lambda *_: ended)
    assert run([*START, "--yes", "--wait", "5"]) == code
    assert (f"is {state}: why" in capsys.readouterr().err) == bool(code)


def test_a_damaged_replay_is_listed_with_what_is_wrong(place, capsys):
    write_note(place.world.own.folder.with_name("r0") / "replay.json", {"id": "r0"})
    assert run(["replay", "list", "--json"]) == 0
    told = capsys.readouterr()
    assert [each["replay"]["id"] for each in json.loads(told.out)] == ["r1"]
    assert "replay r0 of shop is damaged" in told.err


def test_a_refusal_names_the_tables_that_can_be_swapped(place, capsys):
    place.move("requested", "running", "done")
    place.world.own.evidence.unlink()
    assert run(["replay", "swap", "r1", "--yes"]) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "headgate replay swap r1 --table copy --table _quarantine --dry-run" in told


def test_a_swap_that_the_driver_gave_up_is_an_error(place, capsys):
    place.move("requested", "running", "done")
    place.client.after = lambda: place.move("done")
    assert run(["replay", "swap", "r1", "--yes"]) == 1
    assert "replay r1 is done" in capsys.readouterr().err


def test_what_cannot_be_swapped_exactly_is_refused_with_its_reason(place, capsys):
    place.move("requested", "running", "done")
    place.world.own.evidence.unlink()
    assert run(["replay", "swap", "r1", "--yes"]) == 3
    assert "table tens: it was not looked up which of its windows are whole" in capsys.readouterr().err
    assert (place.client.orders, place.state()) == ([], "done")


def test_a_discard_says_what_it_removes_and_is_not_done_unasked(place, capsys, monkeypatch):
    place.move("requested", "running", "done")
    assert run(["replay", "discard", "r1"]) == 3
    assert str(place.world.own.folder) in capsys.readouterr().err
    assert place.state() == "done"
    monkeypatch.setattr(replay_ends, "await_state", lambda *_: SimpleNamespace(state="discarded"))
    assert run(["replay", "discard", "r1", "--yes"]) == 0
    assert place.state() == "discarding"


def test_a_replay_that_is_being_swapped_in_is_not_discarded(place):
    place.move("requested", "running", "done", "swapping")
    assert run(["replay", "discard", "r1", "--yes"]) == 3
