"""A changed contract on trial: what begins one, what ends it well, and what takes it back."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_world import ALICE, POLICY

from headgate.checkpoints.origin import Origin
from headgate.checkpoints.wayback import WayBack
from headgate.streams import orders, upgrade
from headgate.streams.failures import Diagnosis
from headgate.streams.machine import decide
from headgate.streams.model import FailureClass, Phase
from headgate.streams.record import Failure, StopCause, StopOrder, StreamRecord
from headgate.streams.steps import Clearance, Life, Seen, Step

OLD, NEW, OTHER = "aa" * 32, "bb" * 32, "cc" * 32
NOTHING = Seen(Life.NONE, preflight=Clearance())


def ordered(before: StreamRecord | None, contract: str, now: float = 0.0) -> StreamRecord:
    record, _ = orders.ensure(before, stream="s", pipeline="s", contract_hash=contract, owner=ALICE, now=now)
    return record


def step(record: StreamRecord, seen: Seen, now: float = 100.0) -> Step:
    found = decide(record, seen, now=now, policy=POLICY, jitter=0.5)
    assert found is not None
    return found


def died(failure: FailureClass, *, progressed: bool = False) -> Seen:
    found = Diagnosis(failure, "told", "evidence")
    return Seen(Life.DEAD, returncode=10, diagnosis=found, progressed=progressed, preflight=Clearance())


def running(record: StreamRecord, now: float = 100.0) -> StreamRecord:
    started = step(record, NOTHING, now).record
    return step(started, Seen(Life.ALIVE, up=True), now).record


STABLE = replace(ordered(None, OLD), stable_hash=OLD)
TRIAL = replace(running(ordered(STABLE, NEW)), phase_since=100.0)


def test_the_first_contract_is_no_upgrade_and_becomes_the_stable_one():
    record = running(ordered(None, OLD))
    assert record.upgrade is None
    proven = step(record, Seen(Life.ALIVE, up=True, settled="3 batches"))
    assert proven.record.stable_hash == OLD
    assert proven.event is not None
    assert proven.event.kind == "stable"


def test_another_contract_than_the_stable_one_keeps_a_snapshot_before_it_runs():
    record = ordered(STABLE, NEW)
    assert record.upgrade is not None
    assert (record.upgrade.stable_hash, record.upgrade.undone) == (OLD, False)
    assert record.origin == Origin("checkpoint", keep=record.upgrade.snapshot, contract=OLD)


def test_a_restart_in_the_middle_of_the_trial_keeps_the_first_snapshot():
    again = ordered(TRIAL, NEW, now=200.0)
    assert again.generation == TRIAL.generation + 1
    assert again.upgrade == replace(TRIAL.upgrade, begun_at=200.0)
    third = ordered(TRIAL, OTHER)
    assert third.upgrade is not None
    assert (third.upgrade.snapshot, third.upgrade.stable_hash) == (TRIAL.upgrade.snapshot, OLD)


def test_an_order_for_the_stable_contract_is_no_upgrade():
    back = ordered(TRIAL, OLD)
    assert (back.upgrade, back.origin) == (None, None)


def test_an_origin_goes_with_its_own_generation_only():
    record, _ = orders.restart(
        STABLE,
        stream="s",
        actor="cli:bob",
        reason="",
        owner=ALICE,
        contract_hash=NEW,
        now=0.0,
        origin=Origin("earliest", offsets={"t": {0: 0}}),
    )
    assert record.origin is not None
    assert (record.origin.kind, record.origin.contract) == ("earliest", OLD)
    assert ordered(replace(record, stable_hash=NEW), NEW).origin is None


def test_it_is_stable_once_each_query_has_proved_itself_and_no_failure_is_remembered():
    some = Seen(Life.ALIVE, up=True, healthy=True)
    assert decide(TRIAL, some, now=101.0, policy=POLICY, jitter=0.5) is None
    settled = replace(some, settled="3 batches of each query")
    proven = step(TRIAL, settled, 101.0).record
    assert (proven.stable_hash, proven.upgrade, proven.origin) == (NEW, None, None)
    failed = replace(TRIAL, failures=(Failure(100.0, FailureClass.TRANSIENT, "x"),))
    assert decide(failed, settled, now=101.0, policy=POLICY, jitter=0.5) is None


def test_a_driver_that_is_up_and_shows_nothing_is_given_up_and_taken_back():
    late = 100.0 + POLICY.trial_seconds
    given_up = step(TRIAL, Seen(Life.ALIVE, up=True), late).record
    assert given_up.phase is Phase.STOPPING
    back = step(given_up, Seen(Life.DEAD, signal=9), late + 1).record
    assert (back.phase, back.contract_hash) == (Phase.BACKOFF, OLD)


STARTING = step(ordered(STABLE, NEW), NOTHING).record


@pytest.mark.parametrize(
    ("seen", "given_up"),
    [
        (Seen(Life.ALIVE, settles=True, reported_at=101.0), False),
        (Seen(Life.ALIVE, reported_at=890.0), False),
        (Seen(Life.ALIVE, reported_at=590.0), True),
        (Seen(Life.ALIVE), True),
    ],
    ids=["copies", "replays-batches", "hangs", "never-reported"],
)
def test_what_a_start_takes_for_its_checkpoint_is_no_part_of_the_trial(seen, given_up):
    found = decide(STARTING, seen, now=900.0, policy=POLICY, jitter=0.5)
    assert (found is not None) == given_up


def test_while_a_service_is_away_the_trial_waits_too():
    late = 100.0 + 3 * POLICY.trial_seconds
    waiting = Seen(Life.ALIVE, up=True, waited_at=late)
    assert decide(TRIAL, waiting, now=late, policy=POLICY, jitter=0.5) is None
    assert decide(TRIAL, waiting, now=late + POLICY.trial_seconds - 1, policy=POLICY, jitter=0.5) is None
    assert step(TRIAL, waiting, late + POLICY.trial_seconds).record.phase is Phase.STOPPING


def test_an_upgrade_whose_one_query_stalls_is_taken_back_though_the_others_commit():
    stalled = replace(
        running(ordered(STABLE, NEW)),
        phase=Phase.STOPPING,
        stop=StopOrder(StopCause.UNHEALTHY, "supervisor", "stalled: query counts", 900.0, kill=True),
    )
    others = Seen(Life.DEAD, signal=9, progressed=True, each_progressed=False)
    assert step(stalled, others, 901.0).record.contract_hash == OLD
    assert step(stalled, replace(others, each_progressed=True), 901.0).record.contract_hash == NEW


@pytest.mark.parametrize("failure", [FailureClass.DETERMINISTIC, FailureClass.CHECKPOINT])
def test_a_contract_that_cannot_start_is_taken_back_at_once_and_only_once(failure):
    back = step(TRIAL, died(failure))
    record = back.record
    assert (record.phase, record.contract_hash, record.generation) == (
        Phase.BACKOFF,
        OLD,
        TRIAL.generation + 1,
    )
    assert record.origin == Origin("snapshot", snapshot=TRIAL.upgrade.snapshot)
    assert record.owner == TRIAL.owner
    assert back.event is not None
    assert "rolled back" in back.event.detail
    restarted = step(record, NOTHING, 100.0).record
    assert (restarted.phase, restarted.attempted) == (Phase.STARTING, record.generation)
    seen, parked = restarted, Phase.STARTING
    for _ in range(4):
        after = step(seen, died(failure)).record
        assert after.contract_hash == OLD
        parked = after.phase
        if parked is Phase.PARKED:
            break
        seen = step(after, NOTHING, 10_000.0).record
    assert parked is Phase.PARKED


def test_a_contract_that_preflight_refuses_is_taken_back_before_it_ran():
    refused = Seen(Life.NONE, preflight=Clearance(FailureClass.DETERMINISTIC, "another grouping"))
    back = step(ordered(STABLE, NEW), refused).record
    assert (back.phase, back.contract_hash) == (Phase.BACKOFF, OLD)
    started = step(back, NOTHING).record
    assert (started.phase, started.attempted) == (Phase.STARTING, back.generation)
    assert step(back, refused).record.phase is Phase.PARKED


def test_one_crash_of_a_kind_that_passes_is_retried_and_the_second_takes_it_back():
    first = step(TRIAL, died(FailureClass.TRANSIENT)).record
    assert (first.phase, first.contract_hash) == (Phase.BACKOFF, NEW)
    again = step(first, NOTHING, 10_000.0).record
    assert step(again, died(FailureClass.TRANSIENT)).record.contract_hash == OLD


@pytest.mark.parametrize("failure", [FailureClass.DEPENDENCY, FailureClass.DATA_LOSS, FailureClass.FENCED])
def test_what_no_contract_brings_about_takes_nothing_back(failure):
    assert step(TRIAL, died(failure)).record.contract_hash == NEW


def test_a_crash_after_progress_takes_nothing_back():
    assert step(TRIAL, died(FailureClass.DETERMINISTIC, progressed=True)).record.contract_hash == NEW


NO_WAY = WayBack(False, "query counts is damaged (2.delta is empty)")


@pytest.mark.parametrize("failure", [FailureClass.DETERMINISTIC, FailureClass.CHECKPOINT])
def test_where_nothing_could_be_kept_the_stream_parks_with_the_reason_and_the_choices(failure):
    after = step(TRIAL, replace(died(failure), back=NO_WAY))
    record = after.record
    assert (record.phase, record.contract_hash, record.generation) == (Phase.PARKED, NEW, TRIAL.generation)
    assert record.origin == TRIAL.origin
    for part in ("no way back", "2.delta is empty", "told (evidence)", "headgate restart s --from earliest"):
        assert part in record.reason
    assert upgrade.told(TRIAL, record)[1] == "failed"  # type: ignore[index]
    # The same contract again: on trial as before, with nothing to go back to.
    again = ordered(record, NEW)
    assert (again.upgrade.snapshot, again.upgrade.text) == (TRIAL.upgrade.snapshot, "")
    assert upgrade.told(again, step(again, NOTHING).record)[1] == "running"  # type: ignore[index]


def test_without_a_way_back_what_preflight_refuses_parks_and_what_shows_nothing_too():
    refused = Seen(Life.NONE, preflight=Clearance(FailureClass.CHECKPOINT, "a gap"), back=NO_WAY)
    parked = step(ordered(STABLE, NEW), refused).record
    assert (parked.phase, parked.contract_hash, parked.attempted) == (Phase.PARKED, NEW, parked.generation)
    assert "preflight: a gap" in parked.reason
    assert "no way back" in parked.reason
    given_up = step(TRIAL, Seen(Life.ALIVE, up=True, back=NO_WAY), 100.0 + POLICY.trial_seconds).record
    ended = step(given_up, Seen(Life.DEAD, signal=9, back=NO_WAY), 900.0).record
    assert (ended.phase, ended.contract_hash) == (Phase.PARKED, NEW)


def test_a_first_crash_of_a_kind_that_passes_is_retried_without_a_way_back_too():
    first = step(TRIAL, replace(died(FailureClass.TRANSIENT), back=NO_WAY)).record
    assert (first.phase, first.upgrade) == (Phase.BACKOFF, TRIAL.upgrade)
    again = step(first, NOTHING, 10_000.0).record
    assert step(again, replace(died(FailureClass.TRANSIENT), back=NO_WAY)).record.phase is Phase.PARKED


def test_a_way_back_without_a_snapshot_claims_none():
    untouched = replace(died(FailureClass.CHECKPOINT), back=WayBack(kept=False))
    record = step(TRIAL, untouched).record
    assert (record.phase, record.contract_hash) == (Phase.BACKOFF, OLD)
    assert TRIAL.upgrade.snapshot not in record.reason


def test_the_upgrade_is_told_as_an_operation():
    asked = ordered(STABLE, NEW)
    started = step(asked, NOTHING).record
    assert upgrade.told(asked, started)[1] == "running"  # type: ignore[index]
    taken_back = step(TRIAL, died(FailureClass.DETERMINISTIC)).record
    assert upgrade.told(TRIAL, taken_back)[1] == "failed"  # type: ignore[index]
    proven = upgrade.stable(TRIAL)
    assert upgrade.told(TRIAL, proven)[1] == "done"  # type: ignore[index]
    assert upgrade.told(STABLE, STABLE) is None


_DEATHS = st.sampled_from([*FailureClass])
_MOVES = st.one_of(
    st.tuples(st.just("order"), st.sampled_from([OLD, NEW, OTHER])),
    st.tuples(st.just("die"), st.tuples(_DEATHS, st.booleans(), st.booleans())),
    st.tuples(st.just("live"), st.tuples(st.sampled_from([None, "3 batches"]), st.booleans())),
)


@settings(deadline=None)
@given(st.lists(_MOVES, max_size=40), st.integers(0, 99))
def test_whatever_happens_a_rollback_is_to_the_last_stable_contract_and_once_per_order(script, seed):
    chance, now = random.Random(seed), 1000.0
    record, ever_stable, backs = ordered(None, OLD), {""}, 0
    for what, how in script:
        now += chance.uniform(1, 400)
        before = record
        if what == "order":
            record, backs = ordered(record, how, now), 0
        else:
            seen = NOTHING
            if record.phase in (Phase.STARTING, Phase.RUNNING):
                seen = (
                    replace(died(how[0], progressed=how[1]), back=NO_WAY if how[2] else WayBack())
                    if what == "die"
                    else Seen(Life.ALIVE, up=True, settled=how[0], healthy=how[1], shown=how[1])
                )
            elif record.phase is Phase.STOPPING:
                seen = Seen(Life.DEAD, returncode=0)
            found = decide(record, seen, now=now, policy=POLICY, jitter=0.5)
            record = found.record if found is not None else record
        if record.stable_hash != before.stable_hash:
            assert record.stable_hash == record.contract_hash
            ever_stable.add(record.stable_hash)
        if what != "order" and record.contract_hash != before.contract_hash:
            backs += 1
            assert seen.back != NO_WAY
            assert record.contract_hash in ever_stable
            assert record.contract_hash == before.stable_hash
            assert record.generation == before.generation + 1
        assert backs <= 1
        assert record.upgrade is None or record.upgrade.stable_hash in ever_stable
