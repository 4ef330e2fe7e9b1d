"""What is done about a replay whose driver ended, whatever it ended of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.replays.steps import Failed, Finished, Launch, Seen, Wait, decide
from headgate.streams.handover import ExitNote
from headgate.streams.model import DriverStatus, QueryProgress
from headgate.streams.policy import Policy

POLICY = Policy()


def report(phase, epoch=1, kind=None, batches=0, *, message=None, query=None, **others):
    counts = {"records": batches, **others}
    queries = {name: QueryProgress(batches=number) for name, number in counts.items()}
    return DriverStatus(
        *("shop", "shop", epoch, 0, "ab", "1-a", "0", 1, phase, 1.0),
        queries=queries,
        failure_class=kind,
        failure_message=message,
        failure_query=query,
    )


def step(seen, failures=(), judged=0, now=100.0):
    return decide(seen, failures, judged=judged, now=now, policy=POLICY, jitter=0.5)


def test_what_never_ran_is_started_and_what_lives_is_left_alone():
    assert step(Seen(False, 0)) == Launch(1)
    assert step(Seen(True, 3, report=report("running", 3))) == Wait((), 0)
    assert step(Seen(True, 3, report=report("done", 3))) == Wait((), 0)


def test_a_driver_at_the_end_of_its_range_ends_the_replay_also_after_an_ill_exit():
    assert step(Seen(False, 2, ExitNote(0, None, 99.0), report("done", 2))) == Finished()
    assert step(Seen(False, 2, None, report("done", 2))) == Finished()


def test_a_kill_is_waited_after_and_then_started_again():
    waiting = step(Seen(False, 1, ExitNote(None, 9, 99.0), report("running")))
    assert isinstance(waiting, Wait)
    assert (waiting.judged, len(waiting.failures)) == (1, 1)
    assert waiting.until > 100.0
    again = step(Seen(False, 1, ExitNote(None, 9, 99.0), report("running")), waiting.failures, waiting.judged)
    assert again == Launch(2)


def test_a_driver_that_was_asked_to_end_is_started_again_without_a_failure():
    assert step(Seen(False, 4, ExitNote(0, None, 99.0), report("stopped", 4))) == Launch(5)
    assert step(Seen(False, 4, ExitNote(75, None, 99.0), report("running", 3))) == Launch(5)
    # It says nothing of the kind: that it ended well was nobody's order.
    assert isinstance(step(Seen(False, 4, ExitNote(0, None, 99.0), report("running", 4))), Wait)


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (ExitNote(12, None, 99.0), "the contract is gone"),
        (ExitNote(10, None, 99.0), "a restart cannot help"),
    ],
)
def test_what_starting_again_cannot_help_fails_the_replay(ended, told):
    seen = Seen(False, 1, ended, report("failed", 1, "data_loss", message="the contract is gone\nmore"))
    found = step(seen)
    assert isinstance(found, Failed)
    assert told in found.text


@given(st.lists(st.sampled_from(["transient", "unknown", "deterministic"]), min_size=12, max_size=12))
def test_without_progress_a_replay_is_given_up_in_the_end(kinds):
    failures, judged, now = (), 0, 0.0
    for epoch, kind in enumerate(kinds, start=1):
        now += 1.0
        seen = Seen(False, epoch, ExitNote(10, None, now), report("failed", epoch, kind))
        found = step(seen, failures, judged, now)
        if isinstance(found, Failed):
            return
        assert isinstance(found, Wait)
        failures, judged = found.failures, found.judged
    raise AssertionError("it was started for ever")


def test_with_progress_between_kills_it_goes_on():
    failures, judged = (), 0
    for epoch in range(1, 30):
        seen = Seen(False, epoch, ExitNote(None, 9, float(epoch)), report("running", epoch, batches=1))
        found = step(seen, failures, judged, float(epoch))
        assert isinstance(found, Wait)
        failures, judged = found.failures, found.judged


def given_up_at(seen_at, epochs):
    """The epoch after which a replay is given up."""
    failures, judged = (), 0
    for epoch in epochs:
        found = step(seen_at(epoch), failures, judged, float(epoch))
        if isinstance(found, Failed):
            return epoch
        assert isinstance(found, Wait)
        failures, judged = found.failures, found.judged
    return None


def test_what_an_earlier_epoch_committed_is_no_progress_of_those_that_never_reported():
    stale = report("running", 1, batches=5)
    assert given_up_at(lambda n: Seen(False, n, ExitNote(1, None, float(n)), stale), range(2, 30)) is not None


def test_what_other_queries_committed_is_no_progress_of_the_one_that_fails_each_time():
    def seen(epoch):
        ill = report("failed", epoch, "transient", batches=5, query="tens", tens=0)
        return Seen(False, epoch, ExitNote(10, None, float(epoch)), ill)

    assert given_up_at(seen, range(1, 30)) is not None
