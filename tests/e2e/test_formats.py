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
from registry_service import RegistryService, registry_folder

from headgate.contract.loader import load_contracts
from headgate.contract.resolve import resolve
from headgate.errors import ContractError
from headgate.settings import load_settings
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

pytestmark = pytest.mark.e2e

needs_registry = pytest.mark.skipif(
    not registry_folder().is_dir(), reason="no schema registry: tools/setup.sh --tests"
)

# Four sources, one of each format and frame; one driver reads them all.
CONTRACT = """\
headgate: 1
pipeline: formats-PID
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
  plain_rows:
    sql: SELECT at, id, amount FROM plain
    to: [{delta: plain_rows}]
  message_rows:
    sql: SELECT id, kind FROM messages
    to: [{delta: message_rows}]
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
    registry: RegistryService
    client: SchemaRegistryClient
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


@pytest.fixture(scope="module")
def formats(
    service_environ: dict[str, str],
    broker: object,
    tmp_path_factory: pytest.TempPathFactory,
    poll_until: Callable[..., Any],
) -> Iterator[Formats]:
    root = tmp_path_factory.mktemp("formats")
    environ = {
        **service_environ,
        "HEADGATE_ROOTS_STATE": str(root / "state"),
        "HEADGATE_SPARK_UI": "false",
        "HEADGATE_PIPELINES": str(root / "pipelines"),
    }
    registry = RegistryService(load_settings(environ=environ)[0], poll_until)
    environ["HEADGATE_REGISTRY_URL"] = registry.url
    settings, _ = load_settings(environ=environ)
    suffix = str(abs(hash(root)))[:8]
    settings.pipelines_dir.mkdir(parents=True)
    files = {"formats.yaml": CONTRACT.replace("PID", suffix), "plain.avsc": PLAIN, "shop.proto": SHOP_PROTO}
    for name, text in files.items():
        (settings.pipelines_dir / name).write_text(text)
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
        (frozen,) = resolve(load_contracts(settings.pipelines_dir), settings)
        apply_plan(settings, make_plan(settings, [frozen]), by="tests")
        streams.append(Stream(environ, frozen))
        yield Formats(streams[0], registry, client, suffix, root)
    finally:
        for stream in streams:
            stream.end()
        registry.stop()


@needs_registry
def test_every_format_goes_from_a_producer_to_a_table(formats):
    formats.produce(
        "plain",
        {"at": "2026-01-02 12:00:00", "id": 1, "amount": 12.5},
        {"at": "2026-01-02 12:00:01", "id": 2},
    )
    formats.produce("messages", {"id": 3, "kind": "SALE"}, {"id": 4})
    formats.produce("known", {"id": 5, "name": "new"})
    formats.produce("parts", {"id": 6, "kind": "SALE"})
    old = formats.client.get_version(f"known-{formats.suffix}-value", 1).schema_id
    formats.send("known", b"\x00" + old.to_bytes(4, "big") + avro_bytes(KNOWN, {"id": 7, "label": "old"}))
    bad = [b"\x00\x7f\xff\xff\xff\x02", b"\x01", b"{}"]
    formats.send("known", *bad)
    formats.send("plain", b"{}")
    stream = formats.stream
    driver = stream.start()
    stream.until_drained()
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    plain = {(row["id"], row["at"], str(row["amount"])) for row in stream.rows("plain_rows")}
    assert plain == {(1, noon, "12.50"), (2, noon.replace(second=1), "None")}
    assert formats.rows("message_rows") == [(3, "SALE"), (4, "NONE")]
    assert formats.rows("known_rows") == [(5, "new"), (7, "old")]
    assert formats.rows("part_rows") == [(6, "SALE")]
    assert formats.rows("names") == [("new", 1), ("old", 1)]
    quarantined = {(row["source"], row["value"], tuple(row["rules"])) for row in stream.quarantined()}
    assert quarantined == {("known", value, ("_parse",)) for value in bad} | {("plain", b"{}", ("_parse",))}
    total = stream.books().total
    assert (total.read, total.good, total.quarantined) == (11, 7, 4)
    assert driver.stop() == 0


@needs_registry
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
    assert (2**40, "newest") in formats.rows("known_rows")
    assert ("newest", 1) in formats.rows("names")
    assert driver.stop() == 0
    assert not any(b"newest" in row["value"] for row in stream.quarantined())


@needs_registry
def test_a_change_of_schema_that_readers_cannot_resolve_is_refused_by_the_plan(formats):
    settings = formats.stream.settings
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


@needs_registry
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
