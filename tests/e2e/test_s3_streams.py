"""Streams whose tables are on S3: real Kafka, a real driver that is killed between two commits, and restarts
from a snapshot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from driver_process import Stream
from s3_service import SECRET_KEY, keys_below
from s3_streams import Feed, contract, credentials, server, server_log, stream

from headgate import failpoints
from headgate.checkpoints.layout import RECORDS, quarantine_table, table_path
from headgate.checkpoints.logs import newest
from headgate.checkpoints.preflight import preflight
from headgate.checkpoints.restore import NEW_LINEAGE, SAME_BATCHES, Following, following
from headgate.checkpoints.sinks import sinks_of
from headgate.checkpoints.snapshots import Snapshot, verify
from headgate.errors import RefusedError
from headgate.failpoints import Order
from headgate.quality.audit import audit
from headgate.quality.quarantine import newest_quarantined
from headgate.streams.store import StateStore
from headgate.streams.taking import take
from headgate.tables.delta import open_table
from headgate.tables.files import folders_in
from headgate.tables.place import S3Folder
from headgate.topics.apply import apply_plan
from headgate.topics.back import plan_restore
from headgate.topics.plan import make_plan
from serving.tail import tail, tailed_output

__all__ = ["credentials", "server", "server_log", "stream"]


def test_a_driver_loses_and_doubles_nothing_over_kills_between_the_commits_of_its_tables_and_sparks(stream):
    apply_plan(stream.settings, make_plan(stream.settings, [stream.frozen]), by="tests")
    feed = Feed(stream)
    feed.send(3_000, bad_every=50)
    stream.start()
    stream.until_drained()
    feed.check()
    assert stream.drivers[-1].stop() == 0

    # After one table's commit and before the other's; after the quarantine's; after the last of all.
    for name, hit in (
        ("records.after_delta", 1),
        ("records.after_quarantine", 1),
        ("records.before_commit", 1),
    ):
        failpoints.place(stream.settings, name, Order(name, "kill", hit=hit))
        feed.send(3_000, bad_every=3)
        driver = stream.start()
        driver.exit_code()
        assert (stream.settings.state / "failpoints" / f"{name}.fired").exists(), driver.tail()
        assert stream.torn() or name == "records.after_quarantine"
        driver.kill()
        stream.start()
        stream.until_drained()
        feed.check()
        assert stream.drivers[-1].stop() == 0
    # More than a task carries along: they go to the driver by way of the store.
    feed.send(4_000, bad_every=10, doubtful=True)
    stream.start()
    stream.until_drained()
    feed.check()
    assert stream.drivers[-1].stop() == 0
    _looked_at_from_outside(stream, feed)


def _looked_at_from_outside(stream: Stream, feed: Feed) -> None:
    """The doors beside the driver's, and where nothing may lie."""
    settings, frozen = stream.settings, stream.frozen
    assert {each.severity for each in preflight(settings, frozen)} == {"ok"}
    found = audit(settings, frozen)
    assert (found.difference, found.quarantine_rows) == (0, len(feed.bad))
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("headgate")), "check", stream.pipeline, "--json"],
        env={**os.environ, **stream.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    large = [number for number in feed.good if number % 1000 >= 500]
    rows = {each["output"]: each["rows_checked"] for each in json.loads(checked.stdout)}
    assert rows == {"rows": len(feed.good), "large": len(large)}
    newest = newest_quarantined(settings, stream.pipeline, limit=5)
    assert [each.value in feed.bad and each.rules == ("in_range",) for each in newest] == [True] * 5
    shown = tail(settings, tailed_output(settings, frozen, "large"), last=3, say=print)
    assert all(next(shown).row["id"] in large for _ in range(3))
    sinks = sinks_of(frozen)
    assert {each.written >= 0 for each in _followed(stream, sinks)} == {True}
    named = {
        f"{folder.key}/{path}"
        for folder in (
            *(table_path(settings.tables, stream.pipeline, name) for name in ("rows", "large")),
            quarantine_table(settings.tables, stream.pipeline),
        )
        for path in pa.table(open_table(folder).get_add_actions(flatten=True))["path"].to_pylist()
    }
    tables = settings.tables
    assert isinstance(tables, S3Folder)
    assert named <= set(keys_below(tables))
    below = [
        str(path) for path in settings.state.rglob("*") if "s3:" in path.name or path.suffix == ".parquet"
    ]
    assert below == [], "nothing of a table lies on this disk"
    for file in settings.state.rglob("*"):
        if file.is_file():
            assert SECRET_KEY.encode() not in file.read_bytes(), f"{file} holds the secret"


def _followed(stream: Stream, sinks: Any) -> list[Following]:
    from types import SimpleNamespace

    snapshot = SimpleNamespace(queries={"records": 0}, pipeline=stream.pipeline, lineage=stream.lineage)
    return list(following(stream.layout, snapshot, sinks, stream.settings.tables).values())  # type: ignore[arg-type]


def _snapshot(stream: Stream) -> Snapshot:
    with closing(StateStore(stream.settings.store_url)) as store:
        return take(stream.settings, store, stream.pipeline, actor="cli:tests", reason="request")


def test_a_snapshot_of_a_running_stream_is_gone_back_to_in_both_ways_with_its_tables_in_the_bucket(stream):
    """The checkpoint is copied on the disk, the tables stay where they are or are put back there."""
    apply_plan(stream.settings, make_plan(stream.settings, [stream.frozen]), by="tests")
    feed = Feed(stream)
    feed.send(2_000, bad_every=50)
    driver = stream.start(generation=1)
    stream.until_drained()
    taken = _snapshot(stream)
    assert not verify(stream.settings.snapshots_root, taken)
    for _ in range(2):
        feed.send(1_000, bad_every=10)
        stream.until_drained()
    assert driver.stop() == 0
    feed.check()

    # The same batches run again, and the tables in the bucket know that they have them.
    lineage, before, versions = stream.lineage, newest(stream.query(RECORDS) / "commits"), stream.versions()
    assert before is not None
    assert before >= taken.queries[RECORDS] + 2
    plan = plan_restore(stream.settings, stream.frozen, taken.id)
    assert (plan.origin.way, plan.problems) == (SAME_BATCHES, ())
    stream.start(generation=2, origin=plan.origin)
    stream.until(lambda: newest(stream.query(RECORDS) / "commits") == before, "all of them ran again")
    assert (stream.lineage, stream.versions()["rows"]) == (lineage, versions["rows"])
    feed.send(1_000, bad_every=10)
    stream.until_drained()
    assert stream.drivers[-1].stop() == 0
    feed.check()

    # They cannot: a lineage begins anew, and every table goes back to the version of the snapshot.
    (stream.query(RECORDS) / "offsets" / str(taken.queries[RECORDS] + 1)).unlink()
    plan = plan_restore(stream.settings, stream.frozen, taken.id)
    assert (plan.origin.way, plan.problems) == (NEW_LINEAGE, ())
    stream.start(generation=3, origin=plan.origin)
    stream.until(lambda: stream.lineage != lineage and stream.drained(), "everything is read again")
    assert stream.drivers[-1].stop() == 0
    feed.check()


def test_what_cannot_be_on_s3_is_refused_by_the_plan_and_nothing_is_made(stream):
    jvm = contract(stream.pipeline, "jvm")
    plan = make_plan(stream.settings, [jvm])
    (refusal,) = [each for each in plan.refusals if each.code == "tables_on_s3"]
    assert "JVM lane" in refusal.message
    with pytest.raises(RefusedError, match="does not fence its commits on S3"):
        apply_plan(stream.settings, plan, by="tests")
    tables = stream.settings.tables
    assert isinstance(tables, S3Folder)
    assert folders_in(tables / stream.pipeline) == []
    assert not (stream.settings.home / "s3:").exists()
