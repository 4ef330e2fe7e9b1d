from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.checkpoints.books import Totals
from headgate.contract.model import Job
from headgate.streams.model import FailureClass
from headgate.streams.poison import LEAST_RECORDS, Poison, PoisonWatch, after_batch, explain, lasts
from headgate.streams.policy import Policy, judge
from headgate.streams.record import Failure

JOB = Job(poison_ratio=0.9, poison_park="5 minutes")


def batch(bad: int, good: int = 0, **rules: int) -> Totals:
    return Totals(read=bad + good, good=good, quarantined=bad, rules=rules or {"_parse": bad})


def watch(*batches: tuple[float, Totals], job: Job = JOB) -> PoisonWatch:
    found = PoisonWatch("p", job)
    for now, one in batches:
        found.note(one, "topic t, partition 0, offset 7", now)
    return found


def test_nothing_but_poison_for_the_contracts_time_parks_and_a_moment_less_does_not() -> None:
    minutes = [(60.0 * minute, batch(40)) for minute in range(6)]
    assert watch(*minutes[:-1]).verdict is None
    verdict = watch(*minutes).verdict
    assert verdict is not None
    assert "240 of the 240 records of the last 300 s (6 batches) were quarantined: _parse 240" in str(verdict)


def test_one_batch_that_is_well_begins_the_count_anew() -> None:
    bad = [(60.0 * minute, batch(40)) for minute in range(12)]
    bad[5] = (300.0, batch(10, good=30))
    assert watch(*bad[:10]).verdict is None
    assert watch(*bad).verdict is not None


def test_batches_without_records_say_nothing_either_way() -> None:
    bad = [(0.0, batch(100)), (100.0, batch(0)), (290.0, batch(0)), (301.0, batch(100))]
    assert watch(*bad).verdict is not None
    assert watch(bad[0], (400.0, batch(0))).verdict is None, "silence is no poison"


def test_few_records_however_bad_park_nothing() -> None:
    each = LEAST_RECORDS // 11
    assert watch(*((60.0 * minute, batch(each)) for minute in range(10))).verdict is None


def test_a_share_as_high_as_allowed_is_allowed_and_one_switches_the_breaker_off() -> None:
    allowed = [(60.0 * minute, batch(90, good=10)) for minute in range(20)]
    assert watch(*allowed).verdict is None
    never = Job(poison_ratio=1, poison_park="1 second")
    assert watch(*((60.0 * minute, batch(500)) for minute in range(20)), job=never).verdict is None


def test_the_text_has_the_top_reasons_an_example_and_what_can_be_done() -> None:
    rules = {f"rule_{number}": number for number in range(9)}
    poison = Poison(0.0, 300.0, 5, 500, 480, {**rules, "_parse": 400}, "topic t, partition 1, offset 99")
    text = str(explain("shop", poison))
    assert "_parse 400, rule_8 8, rule_7 7, rule_6 6, rule_5 5; for example topic t, partition 1" in text
    for command in ("(1) headgate start shop", "headgate apply", "headgate restart shop --from latest"):
        assert command in text
    assert "\n" not in text
    assert len(text) < 1_500, "a parked stream shows the first line of its driver's message"


def test_poison_parks_at_once_whatever_was_committed_before() -> None:
    death = Failure(9.0, FailureClass.POISON, "480 of the 500 records", True)
    verdict = judge((), death, newest_claim=True, policy=Policy(), jitter=0.0)
    assert verdict.delay is None
    assert verdict.reason == "poison: 480 of the 500 records"


BATCHES = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50), st.integers(0, 50)), max_size=30)


@given(batches=BATCHES, ratio=st.floats(0.1, 1.0), park=st.floats(1, 300))
def test_what_parks_is_an_unbroken_run_of_batches_over_the_bound(
    batches: list[tuple[float, int, int]], ratio: float, park: float
) -> None:
    now, poison, run = 0.0, None, []
    for pause, bad, good in batches:
        now += pause
        poison = after_batch(poison, batch(bad, good), "", ratio=ratio, now=now)
        if bad + good and bad <= ratio * (bad + good):
            run = []
        elif bad + good:
            run.append((now, bad))
        counted = sum(bad for _, bad in run)
        expected = len(run) > 1 and counted >= LEAST_RECORDS and run[-1][0] - run[0][0] >= park
        assert lasts(poison, park) == expected
        assert (poison.quarantined if poison else 0) == counted
