from __future__ import annotations

import threading
import time

from monitoring.watch import Reading, Source, Watcher


def _watcher(read: object, *, timeout: float = 5.0, period: float = 0.01) -> Watcher[str]:
    return Watcher(Source("thing", read, period, timeout))  # type: ignore[arg-type]


def test_before_the_first_read_nothing_is_known() -> None:
    watcher = _watcher(lambda: Reading("a"))
    assert watcher.value() is None
    assert not watcher.health().up


def test_a_good_read_is_up_and_keeps_its_value() -> None:
    watcher = _watcher(lambda: Reading("a"))
    watcher.read_once()
    assert watcher.value() == "a"
    assert watcher.health().up and watcher.health().error == ""


def test_a_failed_read_drops_the_old_value_and_keeps_the_moment_of_success() -> None:
    answers = iter([Reading("a")])
    watcher = _watcher(lambda: next(answers))
    watcher.read_once()
    succeeded = watcher.health().succeeded_at
    watcher.read_once()
    assert watcher.value() is None
    health = watcher.health()
    assert not health.up and health.succeeded_at == succeeded and health.error == "StopIteration"


def test_a_read_with_problems_keeps_its_value_and_is_down() -> None:
    watcher = _watcher(lambda: Reading("a", ("logs: cut file",)))
    watcher.read_once()
    assert watcher.value() == "a"
    assert watcher.health().error == "logs: cut file" and not watcher.health().up


def test_a_read_that_hangs_makes_the_source_down_and_nobody_waits_for_it() -> None:
    hold, first = threading.Event(), threading.Event()

    def read() -> Reading[str]:
        if first.is_set():
            hold.wait(30)
        first.set()
        return Reading("a")

    watcher = _watcher(read, timeout=0.05)
    watcher.start()
    try:
        deadline = time.monotonic() + 10
        while watcher.health().error != "no answer for 0.05 s":
            assert time.monotonic() < deadline, watcher.health()
            time.sleep(0.01)
        assert watcher.value() is None
        assert watcher.health().succeeded_at is not None
    finally:
        watcher.stop()
        hold.set()
        watcher.join(10)


def test_a_watcher_that_is_stopped_at_once_has_read_one_time() -> None:
    watcher = _watcher(lambda: Reading("a"), period=60)
    watcher.start()
    watcher.stop()
    watcher.join(10)
    assert watcher.value() == "a"


def test_what_a_source_holds_open_is_closed_after_its_last_read_even_a_failed_one() -> None:
    told: list[str] = []

    def read() -> Reading[str]:
        told.append("read")
        raise OSError("away")

    watcher = Watcher(Source("thing", read, 0.01, 5.0, lambda: told.append("closed")))
    watcher.start()
    watcher.stop()
    watcher.join(30)
    assert told == ["read", "closed"]
