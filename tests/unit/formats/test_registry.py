"""The registry's client against a few lines of its published HTTP protocol, and contracts filled from it.

The real one is in tests/e2e/test_formats.py; this one can answer what a healthy registry does not.
"""

from __future__ import annotations

import json
import subprocess
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
from headgate.contract.registered import filled, with_registered
from headgate.errors import ContractError, NotFoundError, SettingsError, UnavailableError
from headgate.formats import proto_compiler
from headgate.formats import registry as registries
from headgate.formats.proto_compiler import compile_proto
from headgate.formats.protobuf import message_names
from headgate.formats.registry import Registered, Registry, Unusable
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
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
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
    found = list(Registry(settings(tmp_path, url)).versions("s", "avro", [1]))
    assert [type(each) for each in found] == [Unusable, Registered]  # the newest first
    assert found[0] == Unusable(30, 3, "the schema is not a record")
    assert found[1].id == 20
    assert all("deleted=true" in path.lower() for path in told.asked)


def test_protobuf_is_compiled_with_what_it_refers_to(answers, tmp_path):
    told, url = answers
    references = [{"name": "kind.proto", "subject": "kind", "version": 4}]
    order = version(1, 7, PROTO, schemaType="PROTOBUF", references=references)
    told.by_path["/subjects/s/versions/latest"] = order
    told.by_path["/subjects/kind/versions/4"] = version(4, 6, KIND, "kind", schemaType="PROTOBUF")
    found = Registry(settings(tmp_path, url)).schema("s", None, "protobuf")
    assert message_names(found.text) == ["shop.Order"]


ODD = {
    "a default": avro_schema({"name": "a", "type": "bytes", "default": "€"}),
    "no unicode": avro_schema({"name": "a", "type": "string", "default": "\ud800"}),
    "references": {"schema": AVRO, "references": [{"name": "A", "subject": "a", "version": 1}]},
    "protobuf": {"schema": PROTO, "schemaType": "PROTOBUF"},
    "large": avro_schema({"name": "a", "type": "int", "doc": "x" * registries.MAX_BYTES}),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_version_is_of_no_use_and_hides_no_other(answers, tmp_path, odd):
    told, url = answers
    made = ODD[odd] if isinstance(ODD[odd], dict) else {"schema": ODD[odd]}
    told.by_path["/subjects/s/versions"] = [1, 2]
    told.by_path["/subjects/s/versions/1"] = version(1, 10, AVRO)
    told.by_path["/subjects/s/versions/2"] = version(2, 20, AVRO) | made
    newer, older = Registry(settings(tmp_path, url)).versions("s", "avro", [])
    assert (type(newer), newer.id, type(older), older.id) == (Unusable, 20, Registered, 10)


@pytest.mark.parametrize(
    "name", ["../kind.proto", "k" * 300 + ".proto", "a\0b", ".", "kind.proto/x", "gone.proto"]
)
def test_an_odd_reference_costs_the_version_that_has_it(answers, tmp_path, name):
    told, url = answers
    found = {"schemaType": "PROTOBUF"}
    references = [
        {"name": "kind.proto", "subject": "kind", "version": 4},
        {"name": name, "subject": "gone" if name == "gone.proto" else "kind", "version": 4},
    ]
    told.by_path["/subjects/s/versions"] = [1]
    told.by_path["/subjects/s/versions/1"] = version(1, 7, PROTO, references=references, **found)
    told.by_path["/subjects/kind/versions/4"] = version(4, 6, KIND, "kind", **found)
    (one,) = Registry(settings(tmp_path, url)).versions("s", "protobuf", [])
    assert (type(one), one.id) == (Unusable, 7)


def test_a_subject_is_asked_afresh_past_what_the_client_keeps_and_compiled_once(
    answers, tmp_path, monkeypatch
):
    told, url = answers
    compiled = []
    monkeypatch.setattr(
        proto_compiler, "compile_proto", lambda *each: compiled.append(each) or compile_proto(*each)
    )
    told.by_path["/subjects/s/versions"] = [1]
    told.by_path["/subjects/s/versions/1"] = version(1, 7, KIND, schemaType="PROTOBUF")
    registry = Registry(settings(tmp_path, url))
    (first,) = registry.versions("s", "protobuf", [])
    assert list(registry.versions("s", "protobuf", [], afresh=True)) == [first]
    assert (len([path for path in told.asked if "versions/1" in path]), len(compiled)) == (2, 1)
    told.by_path["/subjects/s/versions/1"] = version(1, 9, KIND.replace("NONE", "NO"), schemaType="PROTOBUF")
    (other,) = registry.versions("s", "protobuf", [], afresh=True)
    assert (other.id, other.text == first.text) == (9, False)


def test_a_credential_that_is_changed_is_read_again_before_the_next_try(answers, tmp_path):
    told, url = answers
    word = tmp_path / "word"
    word.write_text("old")
    word.chmod(0o600)
    registry = Registry(settings(tmp_path, url, HEADGATE_REGISTRY_TOKEN=f"file:{word}"))
    told.by_path["/subjects/s/versions/latest"] = 401
    with pytest.raises(SettingsError):
        registry.schema("s", None, "avro")
    word.write_text("new")
    told.by_path["/subjects/s/versions/latest"] = version(1, 10, AVRO)
    assert registry.schema("s", None, "avro").id == 10
    assert told.authorization == ["Bearer old", "Bearer new"]
    told.by_path["/subjects/s/versions/latest"] = 403
    with pytest.raises(SettingsError):
        registry.schema("s", None, "avro")
    word.unlink()
    with pytest.raises(SettingsError, match="word"):
        registry.schema("s", None, "avro")


def ended(status: int, said: str = "") -> Any:
    return lambda command, **_: subprocess.CompletedProcess(command, status, b"", said.encode())


def failing(error: Exception) -> Any:
    def run(*_: Any, **__: Any) -> Any:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (ended(-9), "signal 9"),
        (ended(1, "/tmp/x/set: No space left on device"), "No space left"),
        (ended(1, "Traceback (most recent call last):\nMemoryError"), "MemoryError"),
        (failing(subprocess.TimeoutExpired("protoc", 60)), "in 60 s"),
        (failing(BlockingIOError(11, "Resource temporarily unavailable")), "temporarily"),
    ],
    ids=["killed", "full", "memory", "slow", "fork"],
)
def test_a_compiler_that_could_not_work_says_nothing_of_the_schema(answers, tmp_path, monkeypatch, run, said):
    told, url = answers
    told.by_path["/subjects/s/versions"] = [1]
    told.by_path["/subjects/s/versions/1"] = version(1, 7, KIND, schemaType="PROTOBUF")
    registry = Registry(settings(tmp_path, url))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", run)
        with pytest.raises(UnavailableError, match=said):
            list(registry.versions("s", "protobuf", []))
    (one,) = registry.versions("s", "protobuf", [])
    assert isinstance(one, Registered)


def test_what_the_compiler_refuses_is_a_problem_with_the_schema(tmp_path):
    for text in ("message M { int32 a = x; }", 'import "gone.proto";', "message {"):
        (tmp_path / "a.proto").write_text('syntax = "proto3"; ' + text)
        with pytest.raises(SchemaProblem):
            compile_proto(tmp_path / "a.proto", tmp_path)


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


@pytest.mark.parametrize(("url", "error"), [("http://127.0.0.1:1", UnavailableError), ("", SettingsError)])
def test_without_a_registry_the_pipelines_that_need_none_are_named(tmp_path, url, error):
    plain = CONTRACT.replace("format: avro", "format: json").replace("pipeline: orders", "pipeline: plain")
    lines = [line for line in plain.splitlines() if "schema:" not in line]
    (tmp_path / "orders.yaml").write_text(CONTRACT)
    (tmp_path / "plain.yaml").write_text("\n".join(lines))
    both = [load_contract(tmp_path / name) for name in ("orders.yaml", "plain.yaml")]
    environ = {"HEADGATE_HOME": str(tmp_path)} | ({"HEADGATE_REGISTRY_URL": url} if url else {})
    with pytest.raises(error) as found:
        with_registered(both, load_settings(environ=environ)[0])
    assert str(found.value.help).endswith("; `headgate apply plain` needs no registry")


def test_columns_are_held_against_the_registrys_schema(tmp_path):
    (tmp_path / "orders.yaml").write_text(CONTRACT)
    loaded = load_contract(tmp_path / "orders.yaml")
    with pytest.raises(ContractError, match="the schema has no field `a`"):
        filled([loaded], Subjects(Registered(7, 3, avro_schema(("b", "int")))))
    with pytest.raises(ContractError, match=r"orders.yaml:9:.*has not the subject"):
        filled([loaded], Subjects())
