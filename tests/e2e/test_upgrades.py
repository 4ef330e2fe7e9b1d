"""A changed contract through the supervisor, with real drivers: taken back once, parked where the way back is
closed too or what was before is damaged, and begun anew where the state does not fit.

The tests go on from one another: the stream is the same.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from driver_process import Stream, send
from live_installation import SECONDS, headgate, live_installation
from small_contract import KINDS, record, small_contract
from supervised import until

from headgate.checkpoints.layout import RECORDS, CheckpointLayout, table_path
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract
from headgate.streams.client import SupervisorClient
from headgate.streams.model import FailureClass, Phase, StreamStatus
from headgate.streams.operations import operations_of
from headgate.streams.store import StateStore
from headgate.topics.apply import apply_plan
from headgate.topics.plan import Plan, make_plan

JOB = {"trigger": "200 milliseconds", "max_records_per_batch": 200, "cores": 1, "memory": "1g"}
NEVER = [{"name": "never", "expect": "id < 0", "otherwise": "fail"}]


@dataclass
class Place:
    """An installation with its supervisor and one stream."""

    stream: Stream
    client: SupervisorClient
    sent: int = 0

    @property
    def name(self) -> str:
        return self.stream.pipeline

    def contract(self, **changes: Any) -> FrozenContract:
        return small_contract(self.name, job=JOB, partitions=2, **changes)

    def plan(self, frozen: FrozenContract) -> Plan:
        return make_plan(self.stream.settings, [frozen])

    def apply(self, frozen: FrozenContract) -> None:
        apply_plan(self.stream.settings, self.plan(frozen), by="tests")

    def send(self, count: int) -> None:
        records = [record(self.sent + number) for number in range(count)]
        send(self.stream.settings, self.stream.frozen.topics["events"], records, partitions=2)
        self.sent += count

    def headgate(self, *arguments: str, code: int = 0) -> str:
        done = headgate(self.stream, *arguments, code=code)
        return " ".join(f"{done.stdout} {done.stderr}".split())  # lines are as long as a terminal is wide

    def status(self) -> StreamStatus:
        return self.client.status(self.name)

    def kinds(self) -> list[str]:
        return [each.kind for each in self.client.events(self.name)]

    def counts(self) -> dict[str, int]:
        return {row["kind"]: row["n"] for row in self.stream.rows("counts")}

    def check(self) -> None:
        """Every record that was sent is in its place, once."""
        until("all records are read", self.stream.drained, seconds=SECONDS)
        ids = Counter(row["id"] for row in self.stream.rows("rows"))
        assert ids == Counter(range(self.sent))
        assert self.counts() == Counter(f"k{number % KINDS}" for number in range(self.sent))


@pytest.fixture(scope="module")
def place(
    service_environ: dict[str, str], broker: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    frozen = small_contract(f"grow-{os.getpid()}", job=JOB, partitions=2)
    with live_installation(tmp_path_factory.mktemp("upgrades"), service_environ, frozen) as live:
        yield Place(live.stream, live.client)


def test_row_22_a_contract_that_fails_at_its_first_batch_is_taken_back_once_and_tables_are_exact(
    place: Place,
) -> None:
    place.send(1_000)
    place.headgate("start", place.name, "--wait", "240")
    until("stable", lambda: "stable" in place.kinds(), seconds=SECONDS)
    good = place.status()
    place.check()

    bad = place.contract(rules=NEVER)
    place.apply(bad)
    place.send(300)
    place.headgate("restart", place.name, "--wait", "0")

    def taken_back() -> StreamStatus | None:
        status = place.status()
        back = status.phase is Phase.RUNNING and status.generation == good.generation + 2
        return status if back else None

    status = until("it runs as before", taken_back, seconds=SECONDS)
    assert status.contract_hash == good.contract_hash
    assert "never" in status.conditions["rolled_back"]
    place.check()
    with_store = StateStore(place.stream.settings.store_url)
    try:
        (upgrade,) = [each for each in operations_of(with_store, place.name) if each.kind == "upgrade"]
    finally:
        with_store.close()
    assert (upgrade.state, upgrade.name) == ("failed", f"upgrade-{good.generation + 1}")
    assert status.epoch == good.epoch + 2, "one try of the changed contract, and the way back"


def test_row_22_where_the_way_back_is_closed_too_the_stream_parks(place: Place) -> None:
    """The table goes away while the changed contract is tried: what would be gone back to does not fit."""
    before = place.status()
    place.send(50)
    table = table_path(place.stream.settings.tables, place.name, "rows")
    aside = table.with_name("rows-aside")
    place.headgate("restart", place.name, "--wait", "0")
    until("its driver is launched", lambda: place.status().epoch > before.epoch, seconds=SECONDS)
    table.rename(aside)
    try:
        parked = until(
            "parked",
            lambda: status if (status := place.status()).phase is Phase.PARKED else None,
            seconds=SECONDS,
        )
    finally:
        aside.rename(table)
    assert parked.failure_class is FailureClass.DETERMINISTIC
    assert "table_missing" in parked.reason
    assert parked.generation == before.generation + 2, "taken back once, and no more"
    assert parked.contract_hash == before.contract_hash


def test_a_bad_contract_that_is_begun_from_a_damaged_checkpoint_parks_with_what_can_be_done(
    place: Place,
) -> None:
    """Of what was before nothing could be kept, so that nothing is gone back to."""
    lineage, before = place.stream.lineage, place.status()
    offsets = (
        CheckpointLayout(place.stream.settings.checkpoints, place.name).query(lineage, RECORDS) / "offsets"
    )
    (offsets / str(newest(offsets))).write_bytes(b"")
    place.headgate("restart", place.name, "--from", "earliest", "--yes", "--wait", "0")

    def parked() -> StreamStatus | None:
        status = place.status()
        return status if status.phase is Phase.PARKED and status.generation > before.generation else None

    status = until("parked", parked, seconds=SECONDS)
    assert status.generation == before.generation + 1, "nothing was taken back"
    assert place.stream.lineage != lineage
    assert "no way back to contract" in status.reason
    assert f"headgate restart {place.name} --from earliest" in status.reason
    assert (offsets / str(newest(offsets))).read_bytes() == b"", "nothing was mended or removed"

    place.apply(place.contract())
    place.headgate("restart", place.name, "--wait", "240")
    until("all records are read", place.stream.drained, seconds=SECONDS)
    assert place.counts() == Counter(f"k{number % KINDS}" for number in range(place.sent))
    place.headgate("stop", place.name)


def test_a_state_that_does_not_fit_is_begun_anew_by_plan_apply_and_an_order(place: Place) -> None:
    counted = "upper(kind)"
    refused = place.plan(place.contract(counted=counted))
    assert refused.exit_code == 3
    assert "state_does_not_fit" in [each.code for each in refused.refusals]
    changed = place.contract(counted=counted, version=2)
    plan = place.plan(changed)
    assert plan.exit_code == 2
    (note,) = [each for each in plan.notes if each.code == "state_does_not_fit"]
    assert f"headgate restart {place.name} --from earliest" in note.message
    place.apply(changed)
    assert place.status().phase is Phase.STOPPED, "applying starts nothing"

    told = place.headgate("preflight", place.name, code=3)
    assert "state_does_not_fit" in told
    assert f"choice: headgate restart {place.name} --from earliest" in told
    assert "--from snapshot" not in told, "its state is the old one"
    told = place.headgate("restart", place.name, "--from", "snapshot", "--yes", code=3)
    assert "the snapshot's state does not fit" in told

    lineage = place.stream.lineage
    place.headgate("restart", place.name, "--from", "earliest", "--yes", "--wait", "240")
    until(
        "it counts anew", lambda: place.stream.lineage != lineage and place.stream.drained(), seconds=SECONDS
    )
    anew = Counter(f"K{number % KINDS}" for number in range(place.sent))
    until("every group is there", lambda: place.counts().items() >= anew.items(), seconds=SECONDS)
    assert place.status().contract_hash == changed.hash
    place.headgate("stop", place.name)
