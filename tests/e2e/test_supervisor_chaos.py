"""Random kills of supervisor, runner and driver, random orders: one driver at a time, no batch twice.

The seed is in the test's name; a failure replays from it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import ALICE, HASH, Installation, until

from headgate.errors import SupervisorUnavailable
from headgate.streams import processes
from headgate.streams.client import SupervisorClient
from headgate.streams.model import Owner, Phase

BOB = Owner(kind="cli", user="bob")
KILLS = 12


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path)
    installation.policy |= {"backoff_base": 0.05, "stop_deadline": 2.0, "brake_failures": 1000}
    try:
        yield installation
    finally:
        installation.clear()


class Chaos:
    def __init__(self, place: Installation, seed: int) -> None:
        self.place = place
        self.rng = random.Random(seed)
        self.client = place.supervise()
        self.key = 0
        self.order()

    def order(self) -> None:
        self.key += 1
        owner = self.rng.choice((ALICE, BOB))
        self.client.ensure("s", pipeline="s", contract_hash=HASH, owner=owner, idempotency_key=f"k{self.key}")

    def kill_driver(self) -> None:
        self.signal_driver(signal.SIGKILL)

    def freeze_driver(self) -> None:
        self.signal_driver(signal.SIGSTOP)
        self.order()

    def term_driver(self) -> None:
        self.signal_driver(signal.SIGTERM)

    def signal_driver(self, number: int) -> None:
        members = self.place.members("s")
        if members:
            try:
                os.kill(members[0].pid, number)
            except ProcessLookupError:
                return

    def kill_runner(self) -> None:
        for pid in processes.runners_of(processes.marks_of(self.place.folder("s"))):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def kill_supervisor(self) -> None:
        self.place.kill_supervisor()
        self.client = self.place.supervise()

    def order_and_kill_supervisor(self) -> None:
        self.order()
        self.kill_supervisor()

    def act(self) -> str:
        acts = (
            self.kill_driver,
            self.kill_driver,
            self.freeze_driver,
            self.term_driver,
            self.kill_runner,
            self.kill_supervisor,
            self.order_and_kill_supervisor,
            self.order,
        )
        act = self.rng.choice(acts)
        act()
        return act.__name__


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_killed_one_driver_runs_and_no_batch_is_lost_or_doubled(
    place: Installation, seed: int
) -> None:
    place.behave("s", child=True, batch=0.02)
    chaos = Chaos(place, seed)
    done = []
    for _ in range(KILLS):
        before = len(place.commits("s"))
        until(f"progress after {done}", lambda n=before: len(place.commits("s")) > n)
        done.append(chaos.act())
    before = len(place.commits("s"))
    until(f"progress after {done}", lambda: len(place.commits("s")) > before + 3)
    generation = chaos.client.status("s").generation
    chaos.client.stop("s", actor="cli:alice", deadline_seconds=10)
    until("stopped", lambda: chaos.client.status("s").phase is Phase.STOPPED)

    commits = place.commits("s")
    batches = [batch for batch, _ in commits]
    epochs = [epoch for _, epoch in commits]
    assert epochs == sorted(epochs), f"an old epoch wrote after a new one: {done}"
    assert batches == list(range(len(batches))), f"a batch was lost or doubled: {done}"
    starts = [epoch for epoch, _, _ in place.starts("s")]
    assert starts == sorted(set(starts)), f"an epoch was started twice: {done}"
    assert generation == chaos.key
    assert place.members("s") == []


def test_a_supervisor_killed_within_an_order_finishes_it(place: Installation) -> None:
    """It dies at moments that the seed spreads over stop, proof of death and start."""
    client = place.supervise()
    client.ensure("s", pipeline="s", contract_hash=HASH, owner=ALICE, idempotency_key="k0")
    rng = random.Random(7)
    for number in range(1, 6):
        until("a commit", lambda: place.commits("s"))
        client.ensure("s", pipeline="s", contract_hash=HASH, owner=ALICE, idempotency_key=f"k{number}")
        time.sleep(rng.random() * 0.8)
        place.kill_supervisor()
        client = place.supervise()
        until("the order is carried out", lambda c=client, n=number: carried_out(c, n + 1))
    epochs = [epoch for _, epoch in place.commits("s")]
    assert epochs == sorted(epochs)
    assert len(place.starts("s")) >= 6
    ours = [epoch for epoch, _, _ in place.starts("s")]
    assert ours == sorted(set(ours))


def carried_out(client: SupervisorClient, generation: int) -> bool:
    try:
        status = client.status("s")
    except SupervisorUnavailable:
        return False
    return (
        status.phase is Phase.RUNNING and status.driver is not None and status.driver.generation == generation
    )
