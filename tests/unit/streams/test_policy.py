from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.streams.model import FailureClass
from headgate.streams.policy import Policy, backoff_seconds, judge
from headgate.streams.record import Failure

POLICY = Policy()


def failure(kind: FailureClass, at: float, *, progressed: bool = False) -> Failure:
    return Failure(at, kind, "text", progressed)


@given(failures=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_a_pause_is_positive_and_never_longer_than_the_cap(failures: int, jitter: float) -> None:
    assert 0 < backoff_seconds(failures, POLICY, jitter) <= POLICY.backoff_cap


@given(failures=st.integers(1, 40), jitter=st.floats(0, 1, exclude_max=True))
def test_pauses_never_get_shorter_as_failures_add_up(failures: int, jitter: float) -> None:
    assert backoff_seconds(failures + 1, POLICY, jitter) >= backoff_seconds(failures, POLICY, jitter)


def test_an_outage_of_ten_minutes_sees_at_most_six_restarts() -> None:
    """Fault target T5: no storm, whatever the jitter."""
    for jitter in (0.0, 0.5, 0.999):
        at, restarts = 0.0, 0
        while (at := at + backoff_seconds(restarts + 1, POLICY, jitter)) <= 600:
            restarts += 1
        assert restarts <= 6


def test_the_pause_differs_between_streams_that_fail_together() -> None:
    pauses = {backoff_seconds(3, POLICY, jitter / 10) for jitter in range(10)}
    assert len(pauses) == 10


def test_failures_outside_the_window_do_not_brake() -> None:
    spread: tuple[Failure, ...] = ()
    for number in range(12):
        kind = (FailureClass.TRANSIENT, FailureClass.UNKNOWN, FailureClass.FENCED)[number % 3]
        verdict = judge(
            spread[-2:], failure(kind, number * 400.0), newest_claim=True, policy=POLICY, jitter=0.0
        )
        assert verdict.delay is not None
        spread = verdict.failures


def test_different_kinds_of_failure_together_are_a_crash_loop_too() -> None:
    before = tuple(
        failure(kind, float(number))
        for number, kind in enumerate(
            (FailureClass.TRANSIENT, FailureClass.UNKNOWN, FailureClass.DETERMINISTIC, FailureClass.TRANSIENT)
        )
    )
    verdict = judge(before, failure(FailureClass.UNKNOWN, 9.0), newest_claim=True, policy=POLICY, jitter=0.0)
    assert verdict.delay is None
    assert verdict.reason.startswith("crash loop: 5 failures")


def test_an_outage_before_a_crash_does_not_count_against_it() -> None:
    outage = tuple(failure(FailureClass.DEPENDENCY, float(number)) for number in range(30))
    verdict = judge(
        outage, failure(FailureClass.TRANSIENT, 31.0), newest_claim=True, policy=POLICY, jitter=0.0
    )
    assert verdict.delay is not None


def test_progress_begins_a_new_count() -> None:
    before = tuple(failure(FailureClass.TRANSIENT, float(number)) for number in range(4))
    after = failure(FailureClass.TRANSIENT, 5.0, progressed=True)
    verdict = judge(before, after, newest_claim=True, policy=POLICY, jitter=0.5)
    assert verdict.failures == (after,)
    assert verdict.delay == POLICY.backoff_base


def test_data_that_is_lost_is_never_answered_with_a_restart_even_after_progress() -> None:
    for kind in (FailureClass.DATA_LOSS, FailureClass.CHECKPOINT):
        lost = failure(kind, 1.0, progressed=True)
        assert judge((), lost, newest_claim=True, policy=POLICY, jitter=0.0).delay is None
