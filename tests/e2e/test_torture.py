"""The torture kit on real parts: rows of the fault matrix one by one, then whole runs by their seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.contract.loader import load_contract
from headgate.errors import RefusedError
from headgate.settings import Settings, load_settings
from headgate.streams.model import Phase
from headgate.torture.faults import carry_out, wait
from headgate.torture.feeder import Feeder
from headgate.torture.outcome import Outcome
from headgate.torture.place import OWNER, Place, open_place, refuse_foreign_broker
from headgate.torture.plan import Fault, Kind, has_reserve
from headgate.torture.proof import prove
from headgate.torture.run import Request, drained, feeds_of

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).resolve().parents[2]
FAULTS = 5  # of a seed, as in `make torture`, which has fifty
# Every kind of output: passed on and aggregated, in update and in append mode, to Delta and to Redis.
CONTRACT = """\
headgate: 1
pipeline: tortured
version: 1
owner: tests
sources:
  orders:
    topic: tortured-orders
    partitions: 2
    columns:
      - {name: at, type: timestamp, zone: UTC, required: true}
      - {name: shop, type: string, required: true}
      - {name: amount, type: double, required: true}
    event_time: {column: at, watermark: 10 minutes, max_future: 10 minutes}
    rules:
      - {name: positive, expect: amount > 0}
      - {name: known, expect: "shop IN ('north', 'south')"}
outputs:
  sales:
    sql: SELECT at, shop, amount, _partition AS part, _offset AS place FROM orders
    key: [at, part, place]
    to: [{delta: sales}, {redis: tortured-sales}]
  per_minute:
    sql: >-
      SELECT window.start AS minute, shop, count(*) AS orders, avg(amount) AS average
      FROM orders GROUP BY window(at, '1 minute'), shop
    mode: update
    key: [minute, shop]
    to: [{delta: per_minute}, {redis: tortured-per-minute}]
  closed:
    sql: SELECT window.start AS minute, count(*) AS orders FROM orders GROUP BY window(at, '1 minute')
    mode: append
    key: [minute]
    to: [{delta: closed}]
job: {trigger: 1 second, max_records_per_batch: 2000, cores: 2, memory: 1g, shuffle_partitions: 1, lane: jvm}
"""


# The same records through the other lane, which knows no Redis; and a window that is fed in it.
IN_ARROW = """\
headgate: 1
pipeline: tortured-arrow
version: 1
owner: tests
sources:
  orders:
    topic: tortured-arrow-orders
    partitions: 2
    columns:
      - {name: at, type: timestamp, zone: UTC, required: true}
      - {name: shop, type: string, required: true}
      - {name: amount, type: double, required: true}
    event_time: {column: at, watermark: 10 minutes, max_future: 10 minutes}
    rules:
      - {name: positive, expect: amount > 0}
      - {name: known, expect: "shop IN ('north', 'south')"}
outputs:
  sales:
    sql: SELECT at, shop, amount, _partition AS part, _offset AS place FROM orders
    key: [at, part, place]
    to: [{delta: sales}]
  large:
    sql: SELECT _partition AS part, _offset AS place, amount * 2 AS twice FROM orders WHERE amount > 100
    to: [{delta: large}]
  per_minute:
    sql: SELECT window.start AS minute, count(*) AS orders FROM orders GROUP BY window(at, '1 minute')
    lane: arrow
    mode: update
    key: [minute]
    to: [{delta: per_minute}]
job:
  {trigger: 1 second, max_records_per_batch: 2000, cores: 2, memory: 1g, shuffle_partitions: 1, lane: arrow}
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("torture")
    (root / "pipelines").mkdir()
    (root / "pipelines" / "tortured.yaml").write_text(CONTRACT)
    (root / "pipelines" / "tortured-arrow.yaml").write_text(IN_ARROW)
    environ = {
        "HEADGATE_HOME": str(CHECKOUT),
        "HEADGATE_ROOTS_STATE": str(root / "state"),
        "HEADGATE_PIPELINES": str(root / "pipelines"),
    }
    return load_settings(environ=environ)[0]


class Run:
    """One private copy under way, fed until it is proved."""

    def __init__(self, own: Place) -> None:
        self.own = own
        self.feeds = feeds_of(own, Request("tortured", seed=1, kills=0, records=3000))
        self.feeder = Feeder(own.settings, self.feeds)
        self.begun = time.monotonic()
        self.number = 0

    def start(self) -> None:
        with self.own.client() as client:
            client.ensure(
                "tortured",
                pipeline="tortured",
                contract_hash=self.own.frozen.hash,
                owner=OWNER,
                idempotency_key="k",
            )
        wait(lambda: self.own.status().phase is Phase.RUNNING, lambda: self.own.log.read_text()[-3000:])
        self.feeder.start()
        wait(lambda: self.own.committed() >= 0, lambda: self.own.log.read_text()[-3000:])

    def suffer(self, kind: Kind, *, away: float = 1.0, failpoint: str | None = None) -> Outcome:
        self.number += 1
        return carry_out(self.own, Fault(self.number, kind, 0.0, away, failpoint), self.begun)

    def history(self) -> str:
        """What an unexpected restart is explained by: the events, and the end of the driver's log."""
        with self.own.client() as client:
            events = [f"{event.to_phase}: {event.detail}" for event in client.events("tortured", after=-1)]
        log = self.own.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join([*events[-20:], log[-6000:]])


@pytest.fixture(scope="module")
def run(settings: Settings) -> Iterator[Run]:
    loaded = load_contract(settings.pipelines_dir / "tortured.yaml")
    with open_place(settings, loaded, "torture-rows") as own:
        run = Run(own)
        try:
            run.start()
            yield run
        finally:
            run.feeder.abort()


# The rows go on from one another; the last test proves the sinks after all of them.


def test_row_01_a_driver_killed_between_the_sinks_commit_and_sparks_is_restarted_once(run: Run) -> None:
    before = run.own.status()
    outcome = run.suffer(Kind.KILL_AT_FAILPOINT, failpoint="records.after_delta")
    assert (outcome.sigkill, outcome.seen is not None and outcome.seen > 0) == (True, True)
    after = run.own.status()
    assert (after.epoch, after.generation) == (before.epoch + 1, before.generation)
    assert after.restarts == before.restarts + 1


def test_row_05_a_supervisor_that_comes_back_adopts_the_driver(run: Run) -> None:
    before = run.own.status()
    outcome = run.suffer(Kind.KILL_SUPERVISOR)
    assert run.own.status().epoch == before.epoch, run.history()
    assert outcome.adopted is not None and outcome.adopted > 0


@pytest.mark.parametrize("away", [1.0, 1.01])
def test_row_06_a_restarted_broker_needs_no_restart_of_the_stream(run: Run, away: float) -> None:
    """Hard, then in order."""
    before = run.own.status()
    run.suffer(Kind.RESTART_BROKER, away=away)
    assert run.own.status().epoch == before.epoch, run.history()


def test_row_08_a_full_disk_ends_the_driver_which_goes_on_when_there_is_room(run: Run) -> None:
    before = run.own.status()
    run.suffer(Kind.DISK_FULL)
    after = run.own.status()
    assert after.epoch > before.epoch
    assert after.phase is Phase.RUNNING


@pytest.mark.parametrize("away", [1.0, 1.01])
def test_row_09_a_damaged_newest_offsets_file_parks_the_stream_and_nothing_is_deleted(
    run: Run, away: float
) -> None:
    """Cut in half, then empty; what is done by hand afterwards is in docs/runbooks/StreamParked.md."""
    before = run.own.status()
    run.suffer(Kind.DAMAGE_OFFSETS, away=away)
    assert run.own.status().generation == before.generation + 1


def test_row_13_and_23_a_redis_that_is_away_is_waited_for(run: Run) -> None:
    before = run.own.status()
    run.suffer(Kind.RESTART_REDIS, away=4.0)
    assert run.own.status().epoch == before.epoch, run.history()


def test_a_frozen_driver_that_is_thawed_goes_on(run: Run) -> None:
    before = run.own.status()
    run.suffer(Kind.FREEZE_DRIVER, away=2.0)
    assert run.own.status().epoch == before.epoch, run.history()


def test_after_all_of_this_every_record_is_in_its_place_once(run: Run) -> None:
    run.feeder.finish()
    wait(lambda: drained(run.own), lambda: run.own.log.read_text()[-3000:])
    with run.own.client() as client:
        client.stop("tortured", actor="cli:tests")
    wait(lambda: run.own.status().phase is Phase.STOPPED, lambda: "it stops")
    sizes, proofs = prove(run.own, run.feeds)
    assert [proof for proof in proofs if not proof.holds] == []
    assert len(proofs) == 9
    assert sizes.read >= 3000
    assert 0 < sizes.quarantined < sizes.read / 2
    assert set(sizes.rules) >= {"positive", "known", "_parse"}


def test_another_broker_is_refused(run: Run, service_settings: Settings, broker: object) -> None:
    other = run.own.settings.model_copy(update={"kafka": service_settings.kafka})
    refuse_foreign_broker(run.own.settings)
    with pytest.raises(RefusedError, match="not the torture kit's own"):
        refuse_foreign_broker(other)


@pytest.mark.parametrize(("pipeline", "seed"), [("tortured", 1), ("tortured-arrow", 2)])
def test_a_tortured_pipeline_loses_and_doubles_nothing(settings: Settings, pipeline: str, seed: int) -> None:
    """As a user runs it; the seed is in the name, and `headgate torture … --seed` repeats it."""
    command = [str(Path(sys.executable).with_name("headgate")), "torture", pipeline, "--json"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HEADGATE_")}
    environ = {
        "HEADGATE_HOME": str(CHECKOUT),
        "HEADGATE_ROOTS_STATE": str(settings.state),
        "HEADGATE_PIPELINES": str(settings.pipelines_dir),
    }
    process = subprocess.Popen(
        [*command, "--seed", str(seed), "--kills", str(FAULTS)],
        cwd=CHECKOUT,
        env={**inherited, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, talk = process.communicate(timeout=840)
    finally:
        process.terminate()  # it ends what it has started
        process.wait()
    assert process.returncode == 0, talk[-3000:] + out[-3000:]
    report = json.loads(out)
    assert (report["seed"], report["holds"], len(report["faults"])) == (seed, True, FAULTS)
    began = [fault["reserve"] for fault in report["faults"]]
    lacked = [fault for fault in report["faults"] if "no driver in reserve" in fault["note"]]
    assert any(began) == has_reserve(seed) or len(lacked) == FAULTS, report["faults"]
    assert report["sizes"]["quarantined"] > 0
    assert sorted(report["slowest"]) == ["adopted", "kill_seen"]
    assert not list(settings.state.glob(f"torture-{pipeline}-{seed}-*")), "a copy that held is removed"
