"""The registry's client against a few lines of its published HTTP protocol, and contracts filled from it.

The real one is in tests/e2e/test_formats.py; this one can answer what a healthy registry does not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from record_schemas import avro_schema

from headgate.contract.loader import load_contract
from headgate.contract.registered import filled
from headgate.errors import ContractError, NotFoundError, SettingsError, UnavailableError
from headgate.formats.protobuf import message_names
from headgate.formats.registry import Registered, Registry
from headgate.formats.shapes import SchemaProblem
from headgate.settings import Settings, load_settings

AVRO = avro_schema(("a", "int"))
PROTO = 'syntax = "proto3"; package shop; import "kind.proto"; message Order { Kind kind = 1; }'
KIND = 'syntax = "proto3"; package shop; enum Kind { NONE = 0; }'


@dataclass
class Answers:
    """What the server says by path; a number is a status."""

    by_path: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)


@pytest.fixture
def answers() -> Iterator[tuple[Answers, str]]:
    told = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            told.asked.append(self.path)
            told.authorization.append(self.headers.get("Authorization"))
            found = told.by_path.get(path, 404)
            status = found if isinstance(found, int) else 200
            body = json.dumps({"error_code": status, "message": "no"} if isinstance(found, int) else found)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def settings(folder: Path, url: str, **more: str) -> Settings:
    environ = {"HEADGATE_HOME": str(folder), "HEADGATE_REGISTRY_URL": url}
    return load_settings(environ={**environ, **more})[0]


def version(number: int, schema_id: int, text: str, subject: str = "s", **more: Any) -> dict[str, Any]:
    return {"subject": subject, "version": number, "id": schema_id, "schema": text, **more}


def test_the_newest_version_of_a_subject_and_a_given_one(answers, tmp_path):
    told, url = answers
    told.by_path["/subjects/s/versions/latest"] = version(2, 20, AVRO)
    told.by_path["/subjects/s/versions/1"] = version(1, 10, AVRO)
    registry = Registry(settings(tmp_path, url))
    text = json.dumps(json.loads(AVRO), separators=(",", ":"))
    assert registry.schema("s", None, "avro") == Registered(20, 2, text)
    assert registry.schema("s", 1, "avro") == Registered(10, 1, text)


def test_versions_are_those_that_are_new_and_deleted_ones_too(answers, tmp_path):
    told, url = answers
    told.by_path["/subjects/s/versions"] = [1, 2, 3]
    told.by_path["/subjects/s/versions/2"] = version(2, 20, AVRO)
    told.by_path["/subjects/s/versions/3"] = version(3, 30, '{"type": "string"}')  # no record: of no use
    found = Registry(settings(tmp_path, url)).versions("s", "avro", [1])
    assert [each.id for each in found] == [20]
    assert all("deleted=true" in path.lower() for path in told.asked)


def test_protobuf_is_compiled_with_what_it_refers_to(answers, tmp_path):
    told, url = answers
    references = [{"name": "kind.proto", "subject": "kind", "version": 4}]
    order = version(1, 7, PROTO, schemaType="PROTOBUF", references=references)
    told.by_path["/subjects/s/versions/latest"] = order
    told.by_path["/subjects/kind/versions/4"] = version(4, 6, KIND, "kind", schemaType="PROTOBUF")
    found = Registry(settings(tmp_path, url)).schema("s", None, "protobuf")
    assert message_names(found.text) == ["shop.Order"]


def test_a_reference_cannot_leave_its_folder(answers, tmp_path):
    told, url = answers
    references = [{"name": "../kind.proto", "subject": "kind", "version": 4}]
    order = version(1, 7, PROTO, schemaType="PROTOBUF", references=references)
    told.by_path["/subjects/s/versions/latest"] = order
    with pytest.raises(SchemaProblem, match=r"kind\.proto"):
        Registry(settings(tmp_path, url)).schema("s", None, "protobuf")


def test_a_subject_of_another_format_is_no_schema_of_this_one(answers, tmp_path):
    told, url = answers
    told.by_path["/subjects/s/versions/latest"] = version(1, 1, AVRO)
    with pytest.raises(SchemaProblem, match="has Avro schemas"):
        Registry(settings(tmp_path, url)).schema("s", None, "protobuf")


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFoundError), (401, SettingsError), (403, SettingsError), (500, UnavailableError)],
)
def test_what_the_registry_refuses_is_told_apart(answers, tmp_path, status, error):
    told, url = answers
    told.by_path["/subjects/s/versions/latest"] = status
    with pytest.raises(error):
        Registry(settings(tmp_path, url)).schema("s", None, "avro")


def test_a_registry_that_is_away_is_unavailable(tmp_path):
    with pytest.raises(UnavailableError, match="does not answer"):
        Registry(settings(tmp_path, "http://127.0.0.1:1")).schema("s", None, "avro")


def test_without_a_registry_the_setting_is_named(tmp_path):
    with pytest.raises(SettingsError, match="no schema registry is set"):
        Registry(load_settings(environ={"HEADGATE_HOME": str(tmp_path)})[0])


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        ({}, None),
        ({"USERNAME": "env:USER_OF_TEST", "PASSWORD": "env:WORD_OF_TEST"}, "Basic dTpw"),
        ({"TOKEN": "env:WORD_OF_TEST"}, "Bearer p"),
    ],
)
def test_credentials_are_references(answers, tmp_path, monkeypatch, more, sent):
    told, url = answers
    monkeypatch.setenv("USER_OF_TEST", "u")
    monkeypatch.setenv("WORD_OF_TEST", "p")
    told.by_path["/subjects/s/versions/latest"] = version(1, 1, AVRO)
    found = settings(tmp_path, url, **{f"HEADGATE_REGISTRY_{key}": value for key, value in more.items()})
    Registry(found).schema("s", None, "avro")
    assert told.authorization == [sent]


CONTRACT = """\
headgate: 1
pipeline: orders
version: 1
owner: shop
sources:
  orders:
    topic: orders
    format: avro
    schema: {registry: true, subject: orders-value}
    columns: [{name: a, type: int}]
outputs:
  copy: {sql: SELECT a FROM orders, to: [{delta: copies}]}
"""


class Subjects:
    def __init__(self, *found: Registered) -> None:
        self.found = found

    def schema(self, subject: str, version: int | None, format_: str) -> Registered:
        if not self.found:
            raise NotFoundError(f"the schema registry has not the subject {subject!r}")
        return self.found[0]


def test_a_plan_freezes_the_schema_its_id_and_its_version(tmp_path):
    (tmp_path / "orders.yaml").write_text(CONTRACT)
    loaded = load_contract(tmp_path / "orders.yaml")
    (item,) = filled([loaded], Subjects(Registered(7, 3, AVRO)))
    schema = item.contract.sources["orders"].record_schema
    assert schema is not None
    assert (schema.id, schema.version, schema.text) == (7, 3, AVRO)


def test_columns_are_held_against_the_registrys_schema(tmp_path):
    (tmp_path / "orders.yaml").write_text(CONTRACT)
    loaded = load_contract(tmp_path / "orders.yaml")
    with pytest.raises(ContractError, match="the schema has no field `a`"):
        filled([loaded], Subjects(Registered(7, 3, avro_schema(("b", "int")))))
    with pytest.raises(ContractError, match=r"orders.yaml:9:.*has not the subject"):
        filled([loaded], Subjects())
