"""The driver's desk: schemas by id for its workers, from a registry that may be away."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from record_schemas import avro_schema, avro_source

from headgate.errors import NotFoundError, SettingsError, UnavailableError
from headgate.formats import desk as desks
from headgate.formats import learned
from headgate.formats.asker import Asker, DeskClosedError, DeskFailedError
from headgate.formats.desk import SETTLING, SchemaDesk
from headgate.formats.learned import Learned
from headgate.formats.registry import Registered, Unusable

SCHEMA = avro_schema(("a", "int"))
SOURCE = avro_source(
    SCHEMA, [{"name": "a", "type": "int"}], frozen={"registry": True, "subject": "s", "id": 1}
)


class Versions:
    """A subject with some versions, each an id or what the registry gives; `away` raises for as many
    questions."""

    def __init__(self, *ids: int | Registered | Unusable, away: int = 0) -> None:
        self.ids = list(ids)
        self.away = away
        self.asked: list[list[int]] = []

    def versions(
        self, subject: str, format_: str, known: Collection[int], *, afresh: bool
    ) -> Iterator[Registered | Unusable]:
        self.asked.append(list(known))
        if self.away:
            self.away -= 1
            raise UnavailableError("the schema registry does not answer")
        if not self.ids:
            raise NotFoundError("no such subject")
        for number, each in reversed(list(enumerate(self.ids, 1))):
            if number not in known:
                yield Registered(each, number, SCHEMA) if isinstance(each, int) else each


@pytest.fixture
def make() -> Iterator[Callable[..., SchemaDesk]]:
    opened: list[SchemaDesk] = []

    def build(versions: Versions, kept: Path | None = None, **more: Any) -> SchemaDesk:
        options = {"stopping": lambda _: False, "waiting": lambda _: None, **more}
        opened.append(SchemaDesk({"a": SOURCE, "b": SOURCE}, versions, Learned(kept), **options))
        return opened[-1]

    yield build
    for each in opened:
        each.close()


def test_a_worker_gets_the_schemas_of_the_ids_that_the_subject_has(make):
    versions = Versions(7, 8)
    ask = make(versions).askers["a"]
    assert ask([7, 8]) == {7: SCHEMA, 8: SCHEMA}
    assert ask([7]) == {7: SCHEMA}
    assert versions.asked == [[]]


def test_an_unknown_id_asks_for_the_versions_that_are_new_and_for_no_others(make):
    versions = Versions(7)
    ask = make(versions).askers["a"]
    assert ask([7]) == {7: SCHEMA}
    versions.ids.append(9)
    assert ask([9]) == {9: SCHEMA}
    assert versions.asked == [[], [1]]


def test_a_registry_of_several_servers_gets_a_moment_before_an_id_is_held_to_be_none(make):
    versions, pauses = Versions(7), []

    def registered_meanwhile(seconds: float) -> bool:
        if seconds:
            pauses.append(seconds)
            versions.ids.append(9)
        return False

    ask = make(versions, stopping=registered_meanwhile).askers["a"]
    assert ask([9]) == {9: SCHEMA}
    assert (pauses, versions.asked) == ([SETTLING], [[], []])


def test_an_id_that_was_held_to_be_none_stays_one_and_is_asked_for_no_more(make, caplog):
    versions = Versions(7)
    ask = make(versions).askers["a"]
    assert ask([7, 9]) == {7: SCHEMA}
    asked = list(versions.asked)
    versions.ids.append(9)
    assert ask([7, 9]) == {7: SCHEMA}
    assert versions.asked == asked
    versions.ids.insert(1, 10)  # the newest one is asked for first
    with caplog.at_level(logging.WARNING, "headgate.registry"):
        assert ask([9, 10]) == {10: SCHEMA}
    assert "has the schema 9 now; its records go on to the quarantine" in caplog.text


def test_a_successor_judges_as_the_driver_before_it_did_without_a_registry(make, tmp_path):
    kept = tmp_path / "_schemas" / "l.jsonl"
    make(Versions(7), kept).askers["a"]([7, 9])
    with kept.open("ab") as stream:
        stream.write(b'{"source": "a", "id": 11, "te')  # a kill cut it off: no worker has heard of it
    after = Versions(9, 11, away=1)
    ask = make(after, kept, stopping=lambda _: True).askers["a"]
    assert ask([7, 9]) == {7: SCHEMA}
    assert after.asked == []
    with pytest.raises(DeskClosedError):
        ask([11])
    assert ask([11]) == {11: SCHEMA}
    last = Versions(away=99)
    assert make(last, kept).askers["a"]([7, 9, 11]) == {7: SCHEMA, 11: SCHEMA}
    assert last.asked == []


def test_ids_without_number_are_remembered_up_to_a_bound_and_asked_again_beyond_it(make, monkeypatch):
    monkeypatch.setattr(learned, "MOST_UNKNOWN", 2)
    versions, pauses = Versions(7), []
    ask = make(versions, stopping=lambda seconds: seconds and pauses.append(seconds)).askers["a"]
    assert ask([20, 21, 22]) == {}
    assert ask([20, 21]) == {}
    assert len(versions.asked) == 2
    assert ask([22]) == {}
    assert (len(versions.asked), pauses) == (3, [SETTLING])  # no moment for what bytes at random make


def test_a_registry_that_is_away_is_waited_for_and_told_of(make):
    told: list[str | None] = []
    ask = make(Versions(7, away=2), waiting=told.append, stopping=lambda _: False).askers["a"]
    assert ask([7]) == {7: SCHEMA}
    assert told == ["the schema registry does not answer"] * 2 + [None]


def test_what_is_known_is_answered_while_the_registry_is_waited_for(make):
    versions, waits, end = Versions(7), threading.Event(), threading.Event()

    def stopping(_: float) -> bool:
        waits.set()
        return end.wait(60)

    ask = make(versions, stopping=stopping).askers["a"]
    assert ask([7]) == {7: SCHEMA}
    versions.away = 99
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(ask, [9])
        try:
            assert waits.wait(60)
            assert pool.submit(ask, [7]).result(30) == {7: SCHEMA}
        finally:
            end.set()
        with pytest.raises(DeskClosedError):
            held.result(60)


def test_what_cannot_be_kept_was_not_learned(make, tmp_path):
    kept = tmp_path / "learned.jsonl"
    kept.mkdir()
    told: list[str | None] = []

    def mended(_: float) -> bool:
        kept.rmdir()
        return False

    ask = make(Versions(7), kept, waiting=told.append, stopping=mended).askers["a"]
    assert ask([7]) == {7: SCHEMA}
    assert [each and each.partition(":")[0] for each in told] == [
        "what was learned of the registry's schemas cannot be kept",
        None,
    ]
    assert Learned(kept).of("a").texts == {7: SCHEMA}


def test_a_line_that_the_disk_had_no_room_for_is_taken_back(tmp_path, monkeypatch):
    """Otherwise a later driver would believe it, and judge otherwise than this one goes on to."""
    kept, write = Learned(tmp_path / "l.jsonl"), os.write
    kept.missing("a", [5])
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        kept.missing("a", [6])
    monkeypatch.undo()
    assert os.write is write
    assert Learned(tmp_path / "l.jsonl").of("a").unknown == {5} == kept.of("a").unknown


def test_a_version_that_cannot_be_read_is_known_with_its_reason_and_holds_nothing_up(make, tmp_path, caplog):
    kept = tmp_path / "l.jsonl"
    versions = Versions(7, Unusable(9, 2, "it is odd"))
    with caplog.at_level(logging.WARNING, "headgate.registry"):
        assert make(versions, kept).askers["a"]([7, 9]) == {7: SCHEMA}
    assert "records of schema 9 go to the quarantine: it is odd" in caplog.text
    assert "that its subject has not" not in caplog.text
    assert versions.asked == [[]]
    after = Versions(7, 9)
    assert make(after, kept).askers["a"]([7, 9]) == {7: SCHEMA}  # as the driver before it
    assert after.asked == []
    assert (Learned(kept).of("a").unusable, Learned(kept).of("a").unknown) == ({9: "it is odd"}, set())


def test_a_fault_of_the_desk_is_not_taken_for_its_end(make, caplog):
    class Broken:
        def versions(self, *_: Any, **__: Any) -> Any:
            raise ArithmeticError("nobody thought of it")

    with pytest.raises(DeskFailedError, match="ArithmeticError: nobody thought of it"):
        make(Broken()).askers["a"]([7])
    assert "Traceback" in caplog.text


OTHER = avro_schema(("b", "string"), ("a", "int"))


@pytest.mark.parametrize(("first", "again"), [((), 1), ((7,), 7)], ids=["frozen", "learned"])
def test_a_registry_that_was_made_anew_holds_the_batch_and_is_named(make, first, again):
    """Its ids are given a second time, and bytes do not say which of the two schemas they have."""
    versions, told, good = Versions(*first, 8), [], [True]
    ask = make(versions, waiting=told.append, stopping=lambda seconds: seconds < SETTLING and not good[0])
    ask = ask.askers["a"]
    assert ask([8, *first]).keys() == {8, *first}
    versions.ids, good[0] = [Registered(again, 1, OTHER)], False
    told.clear()
    with pytest.raises(DeskClosedError):
        ask([99])
    assert [f"schema {again}, version 1 of the subject 's'" in str(each) for each in told] == [True]
    assert "made anew: bring its schemas back" in told[0]


def test_a_schema_that_is_laid_out_anew_is_the_same_one(make):
    versions = Versions(7)
    ask = make(versions).askers["a"]
    assert ask([7]) == {7: SCHEMA}
    turned = json.dumps(dict(reversed(json.loads(SCHEMA).items())), indent=2)
    versions.ids = [Registered(7, 1, turned), 9]
    assert ask([10, 9]) == {9: SCHEMA}


def test_a_subject_that_was_registered_anew_is_learned_at_the_second_look(make):
    versions = Versions(7)
    ask = make(versions).askers["a"]
    assert ask([7]) == {7: SCHEMA}
    versions.ids = [9]  # its numbers begin at 1 again
    assert ask([7, 9]) == {7: SCHEMA, 9: SCHEMA}
    assert versions.asked == [[], [1], []]


def test_a_flood_of_invented_ids_pauses_the_stream_once_in_a_while(make, monkeypatch):
    monkeypatch.setattr(desks, "FEW_UNKNOWN", 2)
    versions, pauses, now = Versions(7), [], [100.0]
    stopping = lambda seconds: seconds and pauses.append(seconds)  # noqa: E731
    ask = make(versions, stopping=stopping, clock=lambda: now[0]).askers["a"]
    for each in range(20, 30):
        assert ask([each]) == {}
    assert pauses == [SETTLING] * 2
    now[0] += desks.SECOND_LOOK_EVERY
    assert ask([30]) == ask([31]) == {}
    assert pauses == [SETTLING] * 3


def test_a_source_does_not_wait_for_what_another_one_waits_for(make):
    versions, waits, end, told = Versions(7), threading.Event(), threading.Event(), []

    def stopping(seconds: float) -> bool:
        if not seconds:
            return False
        waits.set()
        return end.wait(60)

    askers = make(versions, stopping=stopping, waiting=told.append).askers
    versions.away = 1
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(askers["a"], [7])
        try:
            assert waits.wait(60)
            assert pool.submit(askers["b"], [7]).result(30) == {7: SCHEMA}
            assert told == ["the schema registry does not answer"]
        finally:
            end.set()
        with pytest.raises(DeskClosedError):
            held.result(60)


def test_a_driver_that_ends_does_not_wait_for_all_versions_and_keeps_those_it_has(make, tmp_path):
    kept = tmp_path / "l.jsonl"
    with pytest.raises(DeskClosedError):
        make(Versions(5, 6, 7), kept, stopping=lambda _: True).askers["a"]([5])
    assert Learned(kept).of("a").texts.keys() == {7}


def test_what_is_waited_for_says_what_to_do(make):
    class Shut(Versions):
        def versions(self, *_: Any, **__: Any) -> Any:
            raise SettingsError("it does not let us in", help="set registry.token")

    told: list[str | None] = []
    with pytest.raises(DeskClosedError):
        make(Shut(), waiting=told.append, stopping=lambda _: True).askers["a"]([7])
    assert told == ["it does not let us in: set registry.token"]


def test_a_driver_that_ends_lets_go_of_the_worker_that_waits(make):
    ask = make(Versions(7, away=99), stopping=lambda _: True).askers["a"]
    with pytest.raises(DeskClosedError):
        ask([7])


def test_a_registry_that_has_lost_the_subject_is_waited_for(make):
    told: list[str | None] = []
    ask = make(Versions(), waiting=told.append, stopping=lambda _: True).askers["a"]
    with pytest.raises(DeskClosedError):
        ask([7])
    assert told == ["no such subject"]


def test_many_workers_that_want_the_same_ask_once(make):
    versions = Versions(7)
    ask = make(versions).askers["a"]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: ask([7]), range(8))) == [{7: SCHEMA}] * 8
    assert versions.asked == [[]]


def test_who_does_not_know_the_token_learns_nothing(make):
    versions = Versions(7)
    ask = make(versions).askers["a"]
    with pytest.raises(DeskClosedError):
        Asker(ask.host, ask.port, "guessed", "a")([7])
    for question in (b"\n", b"[]\n", b"not json\n", json.dumps({"token": ask.token}).encode() + b"\n"):
        with socket.create_connection((ask.host, ask.port), timeout=30) as connection:
            connection.sendall(question)
            assert connection.recv(10) == b""
    assert versions.asked == []


def test_the_token_is_not_shown(make):
    ask = make(Versions(7)).askers["a"]
    assert ask.token not in repr(ask)
