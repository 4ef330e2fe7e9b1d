from __future__ import annotations

from dataclasses import replace

import pytest

from headgate import __version__
from headgate.streams.model import Desired, DriverStatus, FailureClass, Phase, QueryProgress
from headgate.streams.policy import Policy
from headgate.streams.record import Drain, Failure, StreamRecord, Upgrade
from headgate.streams.watch import ProgressWatch, conditions, stall_limit

RECORD = StreamRecord("s", "s", "a" * 64, phase=Phase.RUNNING, phase_since=1000.0, epoch=3)


def report(query: QueryProgress, **changes: object) -> DriverStatus:
    status = DriverStatus(
        stream="s",
        pipeline="s",
        epoch=3,
        generation=1,
        contract_hash="a" * 64,
        lineage="l1",
        headgate_version=__version__,
        pid=1,
        phase="running",
        written_at=2000.0,
        queries={"records": query},
    )
    return replace(status, **changes)  # type: ignore[arg-type]


def silence(watch: ProgressWatch, query: QueryProgress, now: float, trigger: float = 2.0) -> str | None:
    status = report(query)
    watch.note(status)
    found = watch.stalled(RECORD, status, trigger=trigger, now=now)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("trigger", "batches", "limit"),
    [
        (2.0, [], 30.0),
        (60.0, [], 180.0),
        (2.0, [1.0] * 99 + [40.0], 80.0),
        (2.0, [10.0], 30.0),
        (30.0, [20.0], 90.0),
    ],
)
def test_the_limit_is_the_longest_of_three(trigger: float, batches: list[float], limit: float) -> None:
    assert stall_limit(trigger, batches) == limit


def test_a_query_without_a_sign_for_longer_than_the_limit_is_stalled() -> None:
    query = QueryProgress(batch_id=5, last_commit_at=1100.0, last_progress_at=1100.0)
    assert silence(ProgressWatch(), query, 1129.0) is None
    assert "query records has shown no progress for 31 s" in (silence(ProgressWatch(), query, 1131.0) or "")


@pytest.mark.parametrize("sign", ["last_commit_at", "last_progress_at", "last_idle_at", "last_task_at"])
def test_any_sign_of_life_counts(sign: str) -> None:
    assert silence(ProgressWatch(), QueryProgress(**{sign: 1500.0}), 1520.0) is None  # type: ignore[arg-type]


def test_a_first_batch_has_longer() -> None:
    assert silence(ProgressWatch(), QueryProgress(), 1100.0) is None
    assert silence(ProgressWatch(), QueryProgress(), 1121.0) is not None


def test_a_query_that_starts_again_is_as_cold_as_a_first_one_and_no_longer() -> None:
    watch = ProgressWatch()
    before = QueryProgress(batch_id=5, last_commit_at=1490.0, last_progress_at=1490.0)
    assert "no progress for 40 s" in (silence(watch, before, 1530.0) or "")
    again = replace(before, begun_at=1500.0)
    assert silence(watch, again, 1530.0) is None
    assert silence(watch, again, 1619.0) is None
    assert "no progress for 121 s (limit 120 s)" in (silence(watch, again, 1621.0) or "")
    moved = replace(again, batch_id=6, last_commit_at=1510.0, last_progress_at=1510.0)
    assert "no progress for 31 s (limit 30 s)" in (silence(watch, moved, 1541.0) or "")


def test_a_stream_of_long_batches_is_not_stalled_by_one_more() -> None:
    watch = ProgressWatch()
    for number in range(5):
        at = 1100.0 + 60 * number
        query = QueryProgress(batch_id=number, last_commit_at=at, batch_seconds=55.0)
        assert silence(watch, query, at + 1) is None
    assert silence(watch, query, at + 100) is None
    assert silence(watch, query, at + 111) is not None


def test_a_batch_id_that_falls_is_a_new_baseline() -> None:
    watch = ProgressWatch()
    assert (
        silence(watch, QueryProgress(batch_id=900, last_commit_at=1100.0, batch_seconds=1.0), 1101.0) is None
    )
    assert (
        silence(watch, QueryProgress(batch_id=3, last_commit_at=1102.0, batch_seconds=99.0), 1103.0) is None
    )
    assert silence(watch, QueryProgress(batch_id=3, last_commit_at=1102.0), 1140.0) is not None


def test_a_stall_keeps_the_moment_it_began_until_it_ends() -> None:
    watch = ProgressWatch()
    status = report(QueryProgress(last_commit_at=1100.0))
    assert watch.stalled(RECORD, status, trigger=1.0, now=1140.0) == (
        "query records has shown no progress for 40 s (limit 30 s)",
        1140.0,
    )
    again = watch.stalled(RECORD, status, trigger=1.0, now=1150.0)
    assert again is not None
    assert again[1] == 1140.0
    moving = report(QueryProgress(last_commit_at=1160.0))
    assert watch.stalled(RECORD, moving, trigger=1.0, now=1161.0) is None


def test_a_stall_counts_towards_a_restart_only_once_the_service_it_waits_for_is_back() -> None:
    """Else a sink that is away for an hour would park the stream, restart by restart."""
    watch = ProgressWatch()
    silent = QueryProgress(last_commit_at=1100.0)

    def stall(now: float, written_at: float, waiting_for: str | None) -> float | None:
        seen = report(silent, waiting_for=waiting_for, written_at=written_at)
        found = watch.stalled(RECORD, seen, trigger=1.0, now=now)
        return found[1] if found is not None else None

    assert stall(1140.0, 1140.0, "Redis: away") == 1140.0
    assert stall(3000.0, 2999.0, "Redis: away") == 3000.0
    assert stall(3005.0, 3004.0, None) == 3000.0
    assert stall(9000.0, 3004.0, "Redis: away") == 3000.0, "a driver that reports no more waits for nothing"
    assert watch.waited_at("s") == 3000.0
    assert ProgressWatch().waited_at("s") is None


def test_only_a_running_stream_can_stall_and_only_by_its_own_epochs_report() -> None:
    watch = ProgressWatch()
    old = report(QueryProgress(last_commit_at=1.0), epoch=2)
    assert watch.stalled(RECORD, old, trigger=1.0, now=9000.0) is None
    starting = replace(RECORD, phase=Phase.STARTING)
    assert watch.stalled(starting, report(QueryProgress()), trigger=1.0, now=9000.0) is None


DEATH = Failure(1990.0, FailureClass.TRANSIENT, "killed")
DRAIN = Drain("cli:bob", "move", 3000.0, 60.0, {"t": {0: 5}})


def found(status: DriverStatus | None, **changes: object) -> dict[str, str]:
    values: dict[str, object] = {
        "problem": None,
        "stalled": None,
        "applied_hash": "a" * 64,
        "suspended": False,
        "policy": Policy(stable_batches=3, ready_seconds=60.0),
        "now": 2001.0,
        "record": RECORD,
    }
    values |= changes
    record = values.pop("record")
    return conditions(record, status, **values)  # type: ignore[arg-type]


def test_a_healthy_stream_has_no_conditions() -> None:
    assert found(report(QueryProgress())) == {}


@pytest.mark.parametrize(
    ("name", "status", "changes"),
    [
        ("silent", None, {}),
        ("silent", report(QueryProgress(), epoch=2), {}),
        ("silent", report(QueryProgress()), {"now": 2031.0}),
        ("old_version", report(QueryProgress(), headgate_version="0.0.1"), {}),
        ("degraded", report(QueryProgress(active=False)), {}),
        ("degraded", report(QueryProgress(batches=9), waiting_for="Redis: away"), {}),
        ("degraded", report(QueryProgress(batches=9)), {"record": replace(RECORD, failures=(DEATH,))}),
        (
            "draining",
            report(QueryProgress()),
            {"record": replace(RECORD, drain=DRAIN, desired=Desired.RUNNING)},
        ),
        ("contract_pending", report(QueryProgress()), {"applied_hash": "b" * 64}),
        ("suspended", report(QueryProgress()), {"suspended": True}),
        ("stalled", report(QueryProgress()), {"stalled": "query a"}),
        ("report_unreadable", report(QueryProgress()), {"problem": "status.json is not JSON"}),
    ],
)
def test_each_trouble_has_its_condition(
    name: str, status: DriverStatus | None, changes: dict[str, object]
) -> None:
    assert list(found(status, **changes)) == [name]


def test_an_upgrade_without_a_way_back_says_so_while_it_is_on_trial() -> None:
    trial = replace(RECORD, upgrade=Upgrade(RECORD.contract_hash, "0ld" * 20, "upgrade-2", 1.0))
    told = found(report(QueryProgress()), record=trial, lost="2.delta is empty")
    assert list(told) == ["no_way_back"]
    assert "2.delta is empty" in told["no_way_back"]
    assert found(report(QueryProgress()), record=trial) == {}


def test_a_stream_that_was_never_applied_here_has_no_pending_contract() -> None:
    assert found(report(QueryProgress()), applied_hash=None) == {}


FRESH = replace(RECORD, phase_since=1990.0)


@pytest.mark.parametrize(
    ("record", "query", "is_stable"),
    [
        (FRESH, QueryProgress(batches=3), True),
        (FRESH, QueryProgress(batches=2), False),
        (FRESH, QueryProgress(batches=0, last_idle_at=2000.0), False),
        (RECORD, QueryProgress(batches=0, last_idle_at=2000.0), True),
        (RECORD, QueryProgress(batches=1, last_idle_at=1060.0), True),
        # Idle, and then a first batch that has not ended: it may be the one that the contract fails with.
        (RECORD, QueryProgress(batches=0, last_idle_at=1059.0), False),
        (RECORD, QueryProgress(batches=1), False),
    ],
)
def test_an_epoch_is_stable_after_its_batches_or_after_a_quiet_readiness_time(
    record: StreamRecord, query: QueryProgress, is_stable: bool
) -> None:
    assert ("stable" in found(report(query), record=record)) == is_stable


def test_every_query_has_to_prove_itself_and_trouble_is_not_stable() -> None:
    both = {"records": QueryProgress(batches=9), "counts": QueryProgress(batches=1)}
    assert found(report(QueryProgress(), queries=both), record=FRESH) == {}
    steady = QueryProgress(batches=9)
    assert "stable" not in found(report(steady), stalled="query a")
    assert "stable" not in found(report(steady, waiting_for="Redis: away"))
    assert "stable" not in found(report(steady, epoch=2))
