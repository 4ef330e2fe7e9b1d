"""Every format from a producer to a table, with a driver, a broker and a schema registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from driver_process import Stream, send
from record_schemas import avro_bytes, avro_schema
from registry_service import RegistryService

from headgate.contract.loader import load_contracts
from headgate.contract.resolve import resolve
from headgate.errors import ContractError
from headgate.settings import load_settings
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

pytestmark = pytest.mark.e2e

# Two sources of schemas in files, and two of schemas in a registry; a driver for each pair.
FILES = """\
headgate: 1
pipeline: files-PID
version: 1
owner: tests
sources:
  plain:
    topic: plain-PID
    format: avro
    schema: {file: plain.avsc}
    columns:
      - {name: at, type: timestamp, required: true}
      - {name: id, type: int, required: true}
      - {name: amount, type: "decimal(9,2)"}
    event_time: {column: at}
  messages:
    topic: messages-PID
    format: protobuf
    schema: {file: shop.proto, message: shop.Order}
    columns: [{name: id, type: long}, {name: kind, type: string}]
outputs:
  plain_rows:
    sql: SELECT at, id, amount FROM plain
    to: [{delta: plain_rows}]
  message_rows:
    sql: SELECT id, kind FROM messages
    to: [{delta: message_rows}]
job: {trigger: 300 milliseconds, cores: 1, memory: 1g}
"""
REGISTERED = """\
headgate: 1
pipeline: formats-PID
version: 1
owner: tests
sources:
  known:
    topic: known-PID
    format: avro
    schema: {registry: true, subject: known-PID-value}
    columns:
      - {name: id, type: long, required: true}
      - {name: name, type: string}
  parts:
    topic: parts-PID
    format: protobuf
    schema: {registry: true, subject: parts-PID-value, message: shop.Order}
    columns: [{name: id, type: long}, {name: kind, type: string}]
outputs:
  known_rows:
    sql: SELECT id, name FROM known
    to: [{delta: known_rows}]
  part_rows:
    sql: SELECT id, kind FROM parts
    to: [{delta: part_rows}]
  names:
    sql: SELECT name, count(*) AS records FROM known GROUP BY name
    mode: update
    key: [name]
    to: [{delta: names}]
job: {trigger: 300 milliseconds, cores: 1, memory: 1g}
"""
PLAIN = avro_schema(
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("id", "long"),
    ("amount", ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}]),
)
SHOP_PROTO = """\
syntax = "proto3";
package shop;
message Before { int32 x = 1; }
message Order { uint64 id = 1; Kind kind = 2; enum Kind { NONE = 0; SALE = 1; } }
"""
KNOWN = avro_schema(("id", "int"), {"name": "label", "type": "string"})
# A field renamed by an alias, one added with a default, int widened to long: each record keeps its own.
NEXT = avro_schema(
    ("id", "long"),
    {"name": "name", "type": "string", "aliases": ["label"]},
    {"name": "n", "type": "int", "default": 0},
)


@dataclass
class Formats:
    stream: Stream
    suffix: str
    folder: Path

    def topic(self, name: str) -> str:
        return f"{name}-{self.suffix}"

    def produce(self, source: str, *records: dict[str, Any]) -> None:
        """Through the command, from a file of JSON lines."""
        file = self.folder / f"{source}.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        headgate = str(Path(sys.executable).with_name("headgate"))
        done = subprocess.run(
            [
                headgate,
                "produce",
                self.stream.pipeline,
                "--source",
                source,
                "--from-file",
                str(file),
                "--late-ok",
            ],
            env={**os.environ, **self.stream.environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def send(self, source: str, *values: bytes) -> None:
        send(self.stream.settings, self.topic(source), values)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(row.values()) for row in self.stream.rows(table))


@dataclass
class Registered(Formats):
    registry: RegistryService
    client: SchemaRegistryClient


def environ_of(root: Path, service_environ: dict[str, str], files: dict[str, str]) -> dict[str, str]:
    """Settings of a state of its own, with these files beside the contract."""
    pipelines = root / "pipelines"
    pipelines.mkdir(parents=True)
    for name, text in files.items():
        (pipelines / name).write_text(text)
    return {
        **service_environ,
        "HEADGATE_ROOTS_STATE": str(root / "state"),
        "HEADGATE_SPARK_UI": "false",
        "HEADGATE_PIPELINES": str(pipelines),
    }


def applied(environ: dict[str, str]) -> Stream:
    settings, _ = load_settings(environ=environ)
    (frozen,) = resolve(load_contracts(settings.pipelines_dir), settings)
    apply_plan(settings, make_plan(settings, [frozen]), by="tests")
    return Stream(environ, frozen)


@pytest.fixture(scope="module")
def files(
    service_environ: dict[str, str], broker: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Formats]:
    root = tmp_path_factory.mktemp("files")
    suffix = str(abs(hash(root)))[:8]
    texts = {"files.yaml": FILES.replace("PID", suffix), "plain.avsc": PLAIN, "shop.proto": SHOP_PROTO}
    stream = applied(environ_of(root, service_environ, texts))
    try:
        yield Formats(stream, suffix, root)
    finally:
        stream.end()


@pytest.fixture(scope="module")
def formats(
    service_environ: dict[str, str],
    broker: object,
    tmp_path_factory: pytest.TempPathFactory,
    poll_until: Callable[..., Any],
) -> Iterator[Registered]:
    root = tmp_path_factory.mktemp("formats")
    suffix = str(abs(hash(root)))[:8]
    environ = environ_of(root, service_environ, {"formats.yaml": REGISTERED.replace("PID", suffix)})
    registry = RegistryService(load_settings(environ=environ)[0], poll_until)
    environ["HEADGATE_REGISTRY_URL"] = registry.url
    settings, _ = load_settings(environ=environ)
    streams = []
    registry.start()
    try:
        client = SchemaRegistryClient({"url": registry.url})
        client.register_schema(f"known-{suffix}-value", Schema(KNOWN, "AVRO"))
        client.register_schema(f"parts-{suffix}-value", Schema(SHOP_PROTO, "PROTOBUF"))
        with pytest.raises(ContractError, match="the schema has no field `name`"):
            resolve(load_contracts(settings.pipelines_dir), settings)
        client.set_compatibility(f"known-{suffix}-value", "NONE")
        client.register_schema(f"known-{suffix}-value", Schema(NEXT, "AVRO"))
        streams.append(applied(environ))
        yield Registered(streams[0], suffix, root, registry, client)
    finally:
        for stream in streams:
            stream.end()
        registry.stop()


def quarantined(stream: Stream) -> set[tuple[str, bytes, tuple[str, ...]]]:
    return {(row["source"], row["value"], tuple(row["rules"])) for row in stream.quarantined()}


def test_formats_of_files_go_from_a_producer_to_a_table(files):
    files.produce(
        "plain",
        {"at": "2026-01-02 12:00:00", "id": 1, "amount": 12.5},
        {"at": "2026-01-02 12:00:01", "id": 2},
    )
    files.produce("messages", {"id": 3, "kind": "SALE"}, {"id": 4})
    files.send("plain", b"{}")
    stream = files.stream
    driver = stream.start()
    stream.until_drained()
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    plain = {(row["id"], row["at"], str(row["amount"])) for row in stream.rows("plain_rows")}
    assert plain == {(1, noon, "12.50"), (2, noon.replace(second=1), "None")}
    assert files.rows("message_rows") == [(3, "SALE"), (4, "NONE")]
    assert quarantined(stream) == {("plain", b"{}", ("_parse",))}
    total = stream.books().total
    assert (total.read, total.good, total.quarantined) == (5, 4, 1)
    assert driver.stop() == 0


def test_formats_of_a_registry_go_from_a_producer_to_a_table(formats):
    formats.produce("known", {"id": 5, "name": "new"})
    formats.produce("parts", {"id": 6, "kind": "SALE"})
    old = formats.client.get_version(f"known-{formats.suffix}-value", 1).schema_id
    formats.send("known", b"\x00" + old.to_bytes(4, "big") + avro_bytes(KNOWN, {"id": 7, "label": "old"}))
    bad = [b"\x00\x7f\xff\xff\xff\x02", b"\x01", b"{}"]
    formats.send("known", *bad)
    stream = formats.stream
    driver = stream.start()
    stream.until_drained()
    assert formats.rows("known_rows") == [(5, "new"), (7, "old")]
    assert formats.rows("part_rows") == [(6, "SALE")]
    assert formats.rows("names") == [("new", 1), ("old", 1)]
    assert quarantined(stream) == {("known", value, ("_parse",)) for value in bad}
    total = stream.books().total
    assert (total.read, total.good, total.quarantined) == (6, 3, 3)
    assert driver.stop() == 0


def test_a_batch_with_a_new_schema_waits_for_a_registry_that_is_away(formats):
    stream, subject = formats.stream, f"known-{formats.suffix}-value"
    newer = json.loads(NEXT)
    newer["fields"].append({"name": "later", "type": "string", "default": ""})
    text = json.dumps(newer)
    schema_id = formats.client.register_schema(subject, Schema(text, "AVRO"))
    formats.registry.stop()
    try:
        driver = stream.start()
        stream.until_running()
        before = len(stream.rows("known_rows"))
        body = avro_bytes(text, {"id": 2**40, "name": "newest", "n": 1, "later": "x"})
        formats.send("known", b"\x00" + schema_id.to_bytes(4, "big") + body)
        waiting = stream.until(lambda: stream.status()["waiting_for"], "the batch waits for the registry")
        assert "schema registry" in waiting
        assert len(stream.rows("known_rows")) == before
        # A stop does not wait with it: the batch runs again with the next driver.
        assert driver.stop() == 0, driver.tail()
        driver = stream.start()
        stream.until_running()
        stream.until(lambda: stream.status()["waiting_for"], "the batch waits for the registry again")
    finally:
        formats.registry.start()
    stream.until_drained()
    assert not [row for row in stream.quarantined() if b"newest" in row["value"]], driver.tail()
    assert (2**40, "newest") in formats.rows("known_rows"), driver.tail()
    assert ("newest", 1) in formats.rows("names")
    assert driver.stop() == 0


def test_a_change_of_schema_that_readers_cannot_resolve_is_refused_by_the_plan(files):
    settings = files.stream.settings
    file = settings.pipelines_dir / "plain.avsc"
    changed = json.loads(PLAIN)
    changed["fields"].append({"name": "more", "type": "int", "default": 0})
    file.write_text(json.dumps(changed))
    try:
        plan = make_plan(settings, resolve(load_contracts(settings.pipelines_dir), settings))
    finally:
        file.write_text(PLAIN)
    (refusal,) = [each for each in plan.refusals if each.code == "schema_does_not_resolve"]
    assert "the field `more` is new" in refusal.message
    assert plan.exit_code == 3


def test_what_a_driver_has_learned_its_successor_knows_without_the_registry(formats):
    stream, subject = formats.stream, f"known-{formats.suffix}-value"
    old = formats.client.get_version(subject, 1).schema_id
    formats.registry.stop()
    bad = b"\x00\x7f\xff\xff\xff\x02"  # of the batch before: an id that the subject has not
    formats.send(
        "known", b"\x00" + old.to_bytes(4, "big") + avro_bytes(KNOWN, {"id": 8, "label": "late"}), bad
    )
    driver = stream.start()
    stream.until_drained()
    assert (8, "late") in formats.rows("known_rows")
    assert [row["value"] for row in stream.quarantined()].count(bad) == 2
    assert driver.stop() == 0
