from __future__ import annotations

import os
import signal

import pytest

from spark.stop import StopGate, StopRequestedError


def test_an_open_gate_lets_batches_begin_and_a_closed_one_raises():
    gate = StopGate()
    gate.check()
    assert not gate.wait(0)
    gate.close()
    assert gate.closed
    assert gate.wait(0)
    with pytest.raises(StopRequestedError):
        gate.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_gate(number):
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    gate = StopGate()
    gate.install()
    try:
        os.kill(os.getpid(), number)
        assert gate.wait(5)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
