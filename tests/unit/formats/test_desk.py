"""The driver's desk: schemas by id for its workers, from a registry that may be away."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from record_schemas import avro_schema, avro_source

from headgate.errors import NotFoundError, UnavailableError
from headgate.formats import learned
from headgate.formats.desk import SETTLING, Asker, DeskClosedError, SchemaDesk
from headgate.formats.learned import Learned
from headgate.formats.registry import Registered

SCHEMA = avro_schema(("a", "int"))
SOURCE = avro_source(
    SCHEMA, [{"name": "a", "type": "int"}], frozen={"registry": True, "subject": "s", "id": 1}
)


class Versions:
    """A subject with some versions; `away` raises for as many questions."""

    def __init__(self, *ids: int, away: int = 0) -> None:
        self.ids = list(ids)
        self.away = away
        self.asked: list[list[int]] = []

    def versions(self, subject: str, format_: str, known: Sequence[int]) -> list[Registered]:
        self.asked.append(list(known))
        if self.away:
            self.away -= 1
            raise UnavailableError("the schema registry does not answer")
        if not self.ids:
            raise NotFoundError("no such subject")
        return [
            Registered(each, number, SCHEMA) for number, each in enumerate(self.ids, 1) if number not in known
        ]


@pytest.fixture
def make() -> Iterator[Callable[..., SchemaDesk]]:
    desks: list[SchemaDesk] = []

    def build(versions: Versions, kept: Path | None = None, **more: Any) -> SchemaDesk:
        options = {"stopping": lambda _: False, "waiting": lambda _: None, **more}
        desks.append(SchemaDesk({"a": SOURCE}, versions, Learned(kept), **options))
        return desks[-1]

    yield build
    for desk in desks:
        desk.close()


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
        pauses.append(seconds)
        versions.ids.append(9)
        return False

    ask = make(versions, stopping=registered_meanwhile).askers["a"]
    assert ask([9]) == {9: SCHEMA}
    assert (pauses, versions.asked) == ([SETTLING], [[], [1]])


def test_an_id_that_was_held_to_be_none_stays_one_and_is_asked_for_no_more(make, caplog):
    versions = Versions(7)
    ask = make(versions).askers["a"]
    assert ask([7, 9]) == {7: SCHEMA}
    asked = list(versions.asked)
    versions.ids.append(9)
    assert ask([7, 9]) == {7: SCHEMA}
    assert versions.asked == asked
    versions.ids.append(10)
    with caplog.at_level(logging.WARNING, "headgate.registry"):
        assert ask([9, 10]) == {10: SCHEMA}
    assert "has the schemas 9 now; their records go on to the quarantine" in caplog.text


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
    ask = make(versions, stopping=pauses.append).askers["a"]
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
    ask = make(Versions(7), kept).askers["a"]
    for _ in range(2):
        with pytest.raises(DeskClosedError):
            ask([7])


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
