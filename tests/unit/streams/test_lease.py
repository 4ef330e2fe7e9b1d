from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headgate.streams.lease import Lease, SupervisorLease, holder_name
from headgate.streams.proc import boot_id
from headgate.streams.store import StateStore

TTL = 8.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    opened = StateStore(f"sqlite:///{tmp_path}/headgate.db")
    yield opened
    opened.close()


def lease(store: StateStore, holder: str, clock: Clock) -> SupervisorLease:
    return SupervisorLease(store, holder, ttl=TTL, monotonic=clock)


def test_the_first_takes_it_and_the_second_waits(store: StateStore) -> None:
    clock = Clock()
    first, second = lease(store, "far/a", clock), lease(store, "far/b", clock)
    assert first.hold() == Lease(1)
    assert second.hold() is None


def test_a_holder_that_keeps_renewing_is_never_replaced(store: StateStore) -> None:
    clock = Clock()
    first, second = lease(store, "far/a", clock), lease(store, "far/b", clock)
    for _ in range(20):
        assert first.hold() == Lease(1)
        assert second.hold() is None
        clock.now += TTL / 2


def test_a_silent_holder_is_replaced_after_its_time_by_our_own_clock(store: StateStore) -> None:
    clock = Clock()
    first, second = lease(store, "far/a", clock), lease(store, "far/b", clock)
    first.hold()
    assert second.hold() is None
    clock.now += TTL - 0.1
    assert second.hold() is None
    clock.now += 0.2
    assert second.hold() == Lease(2)


def test_one_who_comes_back_finds_the_lease_gone(store: StateStore) -> None:
    clock = Clock()
    first, second = lease(store, "far/a", clock), lease(store, "far/b", clock)
    first.hold()
    second.hold()
    clock.now += TTL
    assert second.hold() == Lease(2)
    assert first.hold() is None


def test_a_skewed_wall_clock_takes_nothing_from_a_living_holder(store: StateStore) -> None:
    clock = Clock()
    first = SupervisorLease(store, "far/a", ttl=TTL, monotonic=clock, wall=lambda: 5_000.0)
    second = SupervisorLease(store, "far/b", ttl=TTL, monotonic=clock, wall=lambda: 5_000_000.0)
    first.hold()
    assert second.hold() is None


def test_a_dead_process_of_this_machine_is_replaced_at_once(store: StateStore) -> None:
    clock = Clock()
    gone = f"{socket.gethostname()}/{boot_id()}/{os.getpid()}/1"  # the id is in use, the start is not its own
    lease(store, gone, clock).hold()
    assert lease(store, holder_name(os.getpid()), clock).hold() == Lease(2)


def test_a_process_of_this_machine_before_its_last_boot_is_replaced_at_once(store: StateStore) -> None:
    clock = Clock()
    lease(store, f"{socket.gethostname()}/another-boot/{os.getpid()}/1", clock).hold()
    assert lease(store, "far/b", clock).hold() == Lease(2)


def test_a_living_process_of_this_machine_is_not_replaced(store: StateStore) -> None:
    clock = Clock()
    lease(store, holder_name(os.getpid()), clock).hold()
    assert lease(store, "far/b", clock).hold() is None


def test_a_released_lease_is_free_at_once(store: StateStore) -> None:
    clock = Clock()
    first = lease(store, "far/a", clock)
    first.hold()
    first.release()
    assert lease(store, "far/b", clock).hold() == Lease(2)


def test_of_many_that_reach_for_a_free_lease_one_gets_it(store: StateStore) -> None:
    clock = Clock()
    gate = threading.Barrier(8)
    got: list[Lease | None] = []

    def reach(number: int) -> None:
        own = lease(store, f"far/{number}", clock)
        gate.wait()
        got.append(own.hold())

    threads = [threading.Thread(target=reach, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=str) == [Lease(1), *[None] * 7]
