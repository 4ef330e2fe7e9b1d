"""The state machine against a small world of processes: random orders, random faults, any moment."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_world import ALICE, COMMANDS, FAULTS, HASH, POLICY, World, happen

from headgate.checkpoints.wayback import WayBack
from headgate.errors import RefusedError
from headgate.streams import orders
from headgate.streams.failures import Diagnosis
from headgate.streams.machine import decide
from headgate.streams.model import Desired, FailureClass, Phase
from headgate.streams.record import Drain, StopCause, StreamRecord, Upgrade
from headgate.streams.steps import Clearance, Effect, Life, Seen, Step
from headgate.streams.transitions import TRANSITIONS, Cause, IllegalTransition, move


def ordered(**changes: object) -> StreamRecord:
    record, _ = orders.ensure(None, stream="s", pipeline="s", contract_hash=HASH, owner=ALICE, now=0.0)
    return replace(record, **changes)  # type: ignore[arg-type]


def next_step(
    record: StreamRecord, seen: Seen, *, now: float = 100.0, suspended: bool = False
) -> Step | None:
    return decide(record, seen, now=now, policy=POLICY, jitter=0.5, suspended=suspended)


def died(failure: FailureClass, *, progressed: bool = False, claimed: int = 0) -> Seen:
    return Seen(
        Life.DEAD,
        returncode=10,
        exited_at=99.0,
        diagnosis=Diagnosis(failure, "told", "evidence"),
        progressed=progressed,
        claimed_epoch=claimed,
    )


RUNNING = ordered(phase=Phase.RUNNING, epoch=3, attempted=1)
CLEAR = Clearance()
NOTHING = Seen(Life.NONE, preflight=CLEAR)


def test_an_order_starts_the_next_epoch_and_writes_it_down_with_the_spawn() -> None:
    step = next_step(ordered(), NOTHING)
    assert step is not None
    assert (step.effect, step.record.epoch, step.record.phase) == (Effect.SPAWN, 1, Phase.STARTING)
    assert step.record.attempted == step.record.generation == 1
    assert step.event is not None
    assert step.event.actor == "cli:alice"


def test_nothing_starts_while_anything_of_the_old_driver_lives() -> None:
    for life in (Life.ALIVE, Life.PENDING, Life.REMAINS):
        for phase in Phase:
            record = replace(RUNNING, phase=phase, generation=2, stop=None)
            if phase is Phase.STOPPING:
                record = replace(record, stop=stopping(1000.0).stop)
            step = next_step(record, Seen(life))
            assert step is None or step.effect is not Effect.SPAWN


def stopping(deadline: float) -> StreamRecord:
    record, _ = orders.stop(
        RUNNING,
        stream="s",
        actor="cli:bob",
        reason="why",
        owner=None,
        generation=None,
        kill=False,
        deadline_seconds=deadline,
        now=100.0,
    )
    step = next_step(record, Seen(Life.ALIVE))
    assert step is not None
    assert step.record.phase is Phase.STOPPING
    return step.record


def test_a_stop_signals_once_waits_for_the_deadline_and_then_kills() -> None:
    record = stopping(30.0)
    signal = next_step(record, Seen(Life.ALIVE))
    assert signal is not None
    assert signal.effect is Effect.SIGNAL
    assert next_step(signal.record, Seen(Life.ALIVE), now=129.0) is None
    kill = next_step(signal.record, Seen(Life.ALIVE), now=130.0)
    assert kill is not None
    assert kill.effect is Effect.KILL
    ended = next_step(kill.record, Seen(Life.DEAD, signal=9), now=131.0)
    assert ended is not None
    assert (ended.record.phase, ended.record.stopped_how) == (Phase.STOPPED, "killed")


def test_a_stop_that_the_driver_finished_says_that_the_batch_was_committed() -> None:
    ended = next_step(stopping(30.0), Seen(Life.DEAD, returncode=0))
    assert ended is not None
    assert ended.record.stopped_how == "committed"
    assert ended.event is not None
    assert ended.event.actor == "cli:bob"


def test_a_sooner_deadline_is_taken_over_and_a_later_one_is_not() -> None:
    record = stopping(30.0)
    again = {"stream": "s", "actor": "cli:bob", "reason": "", "owner": None, "generation": None}
    later, event = orders.stop(record, **again, kill=False, deadline_seconds=60, now=100.0)  # type: ignore[arg-type]
    assert (later, event) == (record, None)
    sooner, _ = orders.stop(record, **again, kill=True, deadline_seconds=60, now=100.0)  # type: ignore[arg-type]
    assert sooner.stop is not None
    assert (sooner.stop.deadline_at, sooner.stop.kill) == (100.0, True)


def test_an_order_right_after_a_stop_drops_the_stop() -> None:
    stopped, _ = orders.stop(
        RUNNING,
        stream="s",
        actor="cli:bob",
        reason="lunch",
        owner=None,
        generation=None,
        kill=True,
        deadline_seconds=0.0,
        now=100.0,
    )
    wanted, _ = orders.ensure(stopped, stream="s", pipeline="s", contract_hash=HASH, owner=ALICE, now=100.0)
    step = next_step(wanted, Seen(Life.ALIVE))
    assert step is not None
    assert step.record.stop is not None
    assert (step.record.stop.cause, step.record.stop.kill) == (StopCause.REPLACED, False)


@pytest.mark.parametrize("failure", [FailureClass.DATA_LOSS, FailureClass.CHECKPOINT])
def test_what_a_restart_cannot_help_is_parked_at_once(failure: FailureClass) -> None:
    step = next_step(RUNNING, died(failure))
    assert step is not None
    assert (step.record.phase, step.record.failure_class) == (Phase.PARKED, failure)
    assert step.ending is not None
    assert step.ending.failure is failure


@pytest.mark.parametrize(
    ("failure", "starts"),
    [
        (FailureClass.DETERMINISTIC, 2),
        (FailureClass.UNKNOWN, 3),
        (FailureClass.TRANSIENT, 5),
        (FailureClass.FENCED, 5),
    ],
)
def test_each_class_has_its_number_of_attempts(failure: FailureClass, starts: int) -> None:
    assert attempts(failure, limit=20) == starts


def test_a_dependency_is_waited_for_without_end_and_ever_later() -> None:
    assert attempts(FailureClass.DEPENDENCY, limit=20) == 20


def test_a_driver_that_commits_between_its_deaths_is_not_in_a_crash_loop() -> None:
    assert attempts(FailureClass.TRANSIENT, limit=20, progressed=True) == 20


def attempts(failure: FailureClass, *, limit: int, progressed: bool = False) -> int:
    """How many drivers are started until the stream is parked."""
    record, now, starts = ordered(), 0.0, 0
    seen = NOTHING
    while starts < limit and record.phase is not Phase.PARKED:
        step = next_step(record, seen, now=now)
        if step is None:
            assert record.next_attempt_at is not None
            assert record.next_attempt_at > now
            now = record.next_attempt_at
            continue
        record = step.record
        spawned = step.effect is Effect.SPAWN
        starts += spawned
        seen = died(failure, progressed=progressed) if spawned else NOTHING
    return starts


def test_a_fenced_driver_is_not_restarted_over_a_newer_claim() -> None:
    step = next_step(RUNNING, died(FailureClass.FENCED, claimed=4))
    assert step is not None
    assert step.record.phase is Phase.PARKED
    ours = next_step(RUNNING, died(FailureClass.FENCED, claimed=3))
    assert ours is not None
    assert ours.record.phase is Phase.BACKOFF


def test_only_an_order_starts_above_a_claim_that_is_not_ours() -> None:
    waiting = replace(RUNNING, phase=Phase.BACKOFF, next_attempt_at=50.0)
    parked = next_step(waiting, Seen(Life.NONE, claimed_epoch=9, preflight=CLEAR))
    assert parked is not None
    assert (parked.record.phase, parked.effect) == (Phase.PARKED, None)
    over = next_step(replace(waiting, generation=2), Seen(Life.NONE, claimed_epoch=9, preflight=CLEAR))
    assert over is not None
    assert (over.record.phase, over.record.epoch) == (Phase.STARTING, 10)


def test_a_stall_restarts_only_when_the_policy_says_so() -> None:
    seen = Seen(Life.ALIVE, up=True, stalled="query a", stalled_since=0.0)
    assert next_step(RUNNING, seen, now=10_000.0) is None
    step = decide(RUNNING, seen, now=601.0, policy=replace(POLICY, stall_restart=600.0), jitter=0.0)
    assert step is not None
    assert step.record.stop is not None
    assert step.record.stop.cause is StopCause.UNHEALTHY
    ended = next_step(step.record, Seen(Life.DEAD, signal=9))
    assert ended is not None
    assert ended.record.phase is Phase.BACKOFF


def test_a_driver_that_lives_and_never_reports_is_ended_and_started_again() -> None:
    record = replace(ordered(), phase=Phase.STARTING, epoch=1, attempted=1, phase_since=0.0)
    mute = Seen(Life.ALIVE, alive_seconds=POLICY.report_seconds)
    late = replace(mute, alive_seconds=1.0)
    assert next_step(record, late, now=10_000.0) is None, "what was seen a moment ago has its time"
    step = next_step(record, mute)
    assert step is not None
    assert step.record.phase is Phase.STOPPING
    assert "said nothing" in step.record.reason
    assert next_step(record, replace(mute, reported_at=3.0)) is None


def test_a_driver_that_never_reported_is_no_verdict_on_a_contract_that_is_on_trial() -> None:
    trial = Upgrade(HASH, "cd" * 32, "before", begun_at=0.0)
    starting = replace(ordered(), phase=Phase.STARTING, epoch=2, attempted=1, upgrade=trial)
    way_back = WayBack()
    for seen in (
        Seen(Life.ALIVE, alive_seconds=POLICY.report_seconds, back=way_back),
        Seen(Life.PENDING, pending_seconds=POLICY.launch_seconds + 1, back=way_back),
    ):
        stopping = next_step(starting, seen)
        assert stopping is not None
        dead = died(FailureClass.TRANSIENT)
        after = next_step(stopping.record, replace(dead, back=way_back))
        assert after is not None
        assert (after.record.phase, after.record.upgrade) == (Phase.BACKOFF, trial)


def test_a_healthy_stretch_forgets_the_failures() -> None:
    step = next_step(RUNNING, died(FailureClass.TRANSIENT))
    assert step is not None
    troubled = replace(step.record, phase=Phase.RUNNING, phase_since=100.0)
    seen = Seen(Life.ALIVE, up=True, healthy=True)
    assert next_step(troubled, seen, now=110.0) is None
    calm = next_step(troubled, seen, now=100.0 + POLICY.healthy_seconds)
    assert calm is not None
    assert calm.record.failures == ()


def test_suspension_stops_and_starts_nothing_but_keeps_what_is_wanted() -> None:
    step = next_step(RUNNING, Seen(Life.ALIVE), suspended=True)
    assert step is not None
    assert (step.record.phase, step.record.desired) == (Phase.STOPPING, Desired.RUNNING)
    ended = next_step(step.record, Seen(Life.DEAD, returncode=0), suspended=True)
    assert ended is not None
    assert ended.record.phase is Phase.STOPPED
    assert next_step(ended.record, NOTHING, suspended=True) is None
    resumed = next_step(ended.record, NOTHING)
    assert resumed is not None
    assert (resumed.effect, resumed.record.epoch) == (Effect.SPAWN, 4)


def test_an_intent_that_was_never_launched_is_launched_with_the_same_epoch() -> None:
    step = next_step(replace(RUNNING, phase=Phase.STARTING), Seen(Life.NEVER, preflight=CLEAR))
    assert step is not None
    assert (step.effect, step.event, step.record.epoch) == (Effect.SPAWN, None, 3)


def test_a_driver_alive_against_the_record_is_stopped() -> None:
    rest = replace(RUNNING, phase=Phase.STOPPED, desired=Desired.STOPPED)
    step = next_step(rest, Seen(Life.ALIVE))
    assert step is not None
    assert step.record.phase is Phase.STOPPING
    assert step.event is not None
    assert step.event.cause == Cause.STRAY


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING, Phase.STOPPING])
def test_a_driver_out_of_sight_is_parked_and_only_an_order_goes_on(phase: Phase) -> None:
    record = replace(stopping(30.0) if phase is Phase.STOPPING else RUNNING, phase=phase)
    step = next_step(replace(record, desired=Desired.RUNNING), Seen(Life.ELSEWHERE, host="far"))
    assert step is not None
    assert (step.record.phase, step.effect) == (Phase.PARKED, None)
    assert "launched on far" in step.record.reason
    assert next_step(step.record, NOTHING) is None
    started = next_step(replace(step.record, generation=2), NOTHING)
    assert started is not None
    assert started.effect is Effect.SPAWN


def test_every_way_that_the_table_does_not_name_is_refused() -> None:
    allowed = {(t.source, t.target, t.cause) for t in TRANSITIONS}
    actors = {"cli:x", "airflow:a/b/c", "supervisor", "driver"}
    for source in Phase:
        for target in Phase:
            for cause in Cause:
                record = replace(RUNNING, phase=source)
                if (source, target, cause) in allowed:
                    continue
                for actor in actors:
                    with pytest.raises(IllegalTransition):
                        move(record, target, cause=cause, actor=actor, now=0.0, reason="")


def test_before_a_start_preflight_looks_and_only_then_it_starts() -> None:
    look = next_step(ordered(), Seen(Life.NONE))
    assert look is not None
    assert (look.effect, look.event, look.record) == (Effect.PREFLIGHT, None, ordered())


def test_what_preflight_warns_of_is_kept_with_the_start() -> None:
    step = next_step(ordered(), Seen(Life.NONE, preflight=Clearance(text="shuffle.partitions stays 2")))
    assert step is not None
    assert step.effect is Effect.SPAWN
    assert "preflight warns: shuffle.partitions stays 2" in step.record.reason


@pytest.mark.parametrize(
    "phase", [Phase.STOPPED, Phase.PARKED, Phase.BACKOFF, Phase.STARTING, Phase.STOPPING]
)
@pytest.mark.parametrize(
    "kind", [FailureClass.CHECKPOINT, FailureClass.DATA_LOSS, FailureClass.DETERMINISTIC]
)
def test_what_preflight_refuses_is_parked_with_its_words_and_its_class(
    phase: Phase, kind: FailureClass
) -> None:
    record = stopping(30.0) if phase is Phase.STOPPING else RUNNING
    record = replace(record, phase=phase, desired=Desired.RUNNING, generation=2)
    life = Life.DEAD if phase in (Phase.STARTING, Phase.STOPPING) else Life.NONE
    refused = Seen(life, returncode=0, preflight=Clearance(kind, "the topic was made anew"))
    step = next_step(record, refused)
    assert step is not None
    assert (step.record.phase, step.record.failure_class, step.effect) == (Phase.PARKED, kind, None)
    assert "the topic was made anew" in step.record.reason
    assert (step.ending is not None) == (life is Life.DEAD), "the row of the driver before is closed"
    assert next_step(step.record, NOTHING) is None, "nothing starts it but a new order"


def test_what_preflight_cannot_look_at_is_asked_again_ever_later_and_never_parked() -> None:
    away = Seen(Life.NONE, preflight=Clearance(FailureClass.DEPENDENCY, "Kafka does not answer"))
    record, now, pauses = ordered(), 100.0, []
    for _ in range(12):
        step = next_step(record, away, now=now)
        assert step is not None
        assert (step.record.phase, step.effect) == (Phase.BACKOFF, None)
        assert "Kafka does not answer" in step.record.reason
        record = step.record
        assert record.next_attempt_at is not None
        pauses.append(record.next_attempt_at - now)
        now = record.next_attempt_at
    assert pauses == sorted(pauses)
    started = next_step(record, NOTHING, now=now)
    assert started is not None
    assert (started.record.phase, started.record.restarts) == (Phase.STARTING, 0)
    assert started.record.attempted == record.generation


def test_a_new_order_does_not_wait_for_what_an_older_one_waited_for() -> None:
    away = Seen(Life.NONE, preflight=Clearance(FailureClass.DEPENDENCY, "Kafka does not answer"))
    step = next_step(ordered(), away)
    assert step is not None
    again, _ = orders.ensure(
        step.record, stream="s", pipeline="s", contract_hash=HASH, owner=ALICE, now=101.0
    )
    started = next_step(again, NOTHING, now=100.0)
    assert started is not None
    assert started.effect is Effect.SPAWN


def test_preflight_looks_during_a_short_pause_and_the_start_still_waits_for_its_time() -> None:
    waiting = replace(RUNNING, phase=Phase.BACKOFF, next_attempt_at=100.5)
    look = next_step(waiting, Seen(Life.NONE), now=100.0)
    assert look is not None
    assert look.effect is Effect.PREFLIGHT
    assert next_step(waiting, NOTHING, now=100.0) is None
    assert next_step(replace(waiting, next_attempt_at=110.0), Seen(Life.NONE), now=100.0) is None


def draining(**changes: object) -> StreamRecord:
    asked = Drain("cli:bob", "move", deadline_at=200.0, stop_seconds=30.0, ends={"t": {0: 5}})
    record, _ = orders.drain(replace(RUNNING, **changes), stream="s", asked=asked, now=100.0)  # type: ignore[arg-type]
    return record


@pytest.mark.parametrize("left", [7, None])
def test_a_draining_stream_runs_on_until_everything_is_committed(left: int | None) -> None:
    assert next_step(draining(), Seen(Life.ALIVE, up=True, left=left)) is None
    step = next_step(draining(), Seen(Life.ALIVE, up=True, left=0), now=150.0)
    assert step is not None
    assert (step.record.desired, step.record.drain) == (Desired.STOPPED, None)
    assert step.record.stop is not None
    assert (step.record.stop.deadline_at, step.record.stop.kill) == (180.0, False)
    stopping_now = next_step(step.record, Seen(Life.ALIVE, up=True), now=150.0)
    assert stopping_now is not None
    assert stopping_now.record.phase is Phase.STOPPING
    assert stopping_now.event is not None
    assert stopping_now.event.actor == "cli:bob"


def test_a_drain_past_its_deadline_is_given_up_and_the_stream_runs_on() -> None:
    step = next_step(draining(), Seen(Life.ALIVE, up=True, left=7), now=200.0)
    assert step is not None
    assert (step.record.desired, step.record.phase, step.effect) == (Desired.RUNNING, Phase.RUNNING, None)
    assert step.record.drain is not None
    assert "7 records were left" in str(step.record.drain.given_up)
    assert next_step(step.record, Seen(Life.ALIVE, up=True, left=0), now=201.0) is None


def test_a_draining_stream_that_crashes_is_started_again_and_goes_on_draining() -> None:
    step = next_step(draining(), died(FailureClass.TRANSIENT))
    assert step is not None
    assert step.record.phase is Phase.BACKOFF
    assert step.record.draining
    again = next_step(step.record, NOTHING, now=101.0)
    assert again is not None
    assert again.effect is Effect.SPAWN
    assert again.record.draining


def test_another_order_ends_a_drain_and_a_stopped_stream_has_nothing_to_drain() -> None:
    restarted, _ = orders.ensure(
        draining(), stream="s", pipeline="s", contract_hash=HASH, owner=ALICE, now=101.0
    )
    assert restarted.drain is None
    with pytest.raises(RefusedError, match="nothing would be drained"):
        draining(desired=Desired.STOPPED)


def retiring(record: StreamRecord) -> StreamRecord:
    asked, _ = orders.retire(
        record, stream="s", actor="cli:bob", reason="old", deadline_seconds=9.0, now=100.0
    )
    return asked


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.PARKED, Phase.BACKOFF, Phase.RUNNING])
def test_a_retired_stream_is_stopped_first_and_then_its_contract_is_withdrawn(phase: Phase) -> None:
    record = retiring(replace(RUNNING, phase=phase))
    seen, effects = Seen(Life.ALIVE if phase is Phase.RUNNING else Life.NONE, applied=True), []
    while (step := next_step(record, seen)) is not None:
        record = step.record
        effects.append(step.effect)
        if step.effect is Effect.SIGNAL:
            seen = Seen(Life.DEAD, returncode=0, applied=True)
        elif step.ending is not None:
            seen = Seen(Life.NONE, applied=True)
        elif step.effect is Effect.WITHDRAW:
            seen = Seen(Life.NONE)
    assert (record.phase, record.desired) == (Phase.RETIRED, Desired.RETIRED)
    assert effects[-1] is Effect.WITHDRAW


def test_a_retired_stream_takes_no_order_until_its_contract_is_applied_anew() -> None:
    gone = replace(retiring(RUNNING), phase=Phase.RETIRED)
    order = {"stream": "s", "pipeline": "s", "contract_hash": HASH, "owner": ALICE, "now": 101.0}
    with pytest.raises(RefusedError, match="is retired"):
        orders.ensure(gone, **order)  # type: ignore[arg-type]
    back = next_step(gone, Seen(Life.NONE, applied=True))
    assert back is not None
    assert (back.record.phase, back.record.desired) == (Phase.STOPPED, Desired.STOPPED)
    wanted, _ = orders.ensure(gone, **order, applied=True)  # type: ignore[arg-type]
    stopped = next_step(wanted, NOTHING)
    assert stopped is not None
    started = next_step(stopped.record, NOTHING)
    assert started is not None
    assert (started.effect, started.record.epoch) == (Effect.SPAWN, gone.epoch + 1)


def test_a_driver_cannot_order_and_a_person_cannot_report_a_driver_up() -> None:
    with pytest.raises(IllegalTransition):
        move(ordered(), Phase.STARTING, cause=Cause.ORDERED, actor="driver", now=0.0, reason="")
    starting = replace(RUNNING, phase=Phase.STARTING)
    with pytest.raises(IllegalTransition):
        move(starting, Phase.RUNNING, cause=Cause.UP, actor="cli:x", now=0.0, reason="")


_SCRIPTS = st.lists(st.sampled_from(COMMANDS + FAULTS * 2), max_size=60)


@given(script=_SCRIPTS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_script_of_orders_and_faults_makes_two_drivers_or_leaves_the_table(
    script: list[str], seed: int
) -> None:
    world = World(random.Random(seed))
    for what in script:
        happen(world, what)
        world.tick()
    epochs = [driver.epoch for driver in world.drivers]
    assert epochs == sorted(set(epochs))


@given(script=_SCRIPTS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_when_the_faults_end_the_stream_comes_to_what_is_wanted(script: list[str], seed: int) -> None:
    world = World(random.Random(seed))
    for what in script:
        happen(world, what)
        world.tick()
    world.suspended, world.fits = False, None
    for _ in range(20):
        world.now += 400.0
        world.tick()
        driver = world.current()
        if driver is not None and driver.alive:
            driver.up = driver.committed = True
    record = world.record
    if record is None:
        return
    alive = [driver.epoch for driver in world.drivers if driver.alive or (driver.child and not driver.alive)]
    if record.desired is not Desired.RUNNING:
        assert record.phase == record.desired, "stopped, or retired"
        assert alive == []
        assert record.desired is Desired.STOPPED or not world.applied
    else:
        assert record.phase in (Phase.RUNNING, Phase.PARKED)
        assert alive == ([record.epoch] if record.phase is Phase.RUNNING else [])


@given(script=_SCRIPTS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_parked_stream_leaves_only_by_an_order(script: list[str], seed: int) -> None:
    world = World(random.Random(seed))
    for what in script:
        before = world.record
        happen(world, what)
        world.tick()
        if before is not None and before.phase is Phase.PARKED and world.record is not None:
            assert world.record.phase is Phase.PARKED or what in COMMANDS or before.superseded
