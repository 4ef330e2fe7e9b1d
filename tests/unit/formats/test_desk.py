"""The driver's desk: schemas by id for its workers, from a registry that may be away."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from record_schemas import avro_schema, avro_source

from headgate.errors import NotFoundError, UnavailableError
from headgate.formats.desk import Asker, DeskClosedError, SchemaDesk
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

    def build(versions: Versions, **more: Any) -> SchemaDesk:
        options = {"stopping": lambda _: False, "waiting": lambda _: None, **more}
        desks.append(SchemaDesk({"a": SOURCE}, versions, **options))
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
    assert ask([7, 9]) == {7: SCHEMA}
    versions.ids.append(9)
    assert ask([9]) == {9: SCHEMA}
    assert versions.asked == [[], [1]]


def test_a_registry_that_is_away_is_waited_for_and_told_of(make):
    told: list[str | None] = []
    ask = make(Versions(7, away=2), waiting=told.append, stopping=lambda _: False).askers["a"]
    assert ask([7]) == {7: SCHEMA}
    assert told == ["the schema registry does not answer"] * 2 + [None]


def test_a_driver_that_ends_lets_go_of_the_worker_that_waits(make):
    ask = make(Versions(7, away=99), stopping=lambda _: True).askers["a"]
    with pytest.raises(DeskClosedError):
        ask([7])


def test_a_subject_that_is_gone_has_no_schemas(make):
    assert make(Versions()).askers["a"]([7]) == {}


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
