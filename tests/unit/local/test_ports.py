from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headgate.errors import RefusedError
from headgate.local.health import Runs
from headgate.local.platform import Platform
from headgate.local.ports import accepts, free_port, holder_of, is_free
from headgate.local.services import Service
from headgate.settings import load_settings


@pytest.fixture
def taken() -> Iterator[int]:
    port = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield port


def test_a_port_that_somebody_listens_on_is_not_free_and_its_holder_is_known(taken: int) -> None:
    assert not is_free("127.0.0.1", taken)
    assert accepts("127.0.0.1", taken)
    holder = holder_of(taken)
    assert holder is not None
    assert holder.pid == os.getpid()


def test_a_free_port_has_no_holder() -> None:
    port = free_port()
    assert is_free("127.0.0.1", port)
    assert not accepts("127.0.0.1", port)
    assert holder_of(port) is None


def test_a_taken_port_is_named_with_the_service_that_needs_it_and_the_pid(tmp_path: Path, taken: int) -> None:
    platform = Platform(load_settings(tmp_path, {})[0])
    service = Service("kafka", ("x",), Runs(), ports=(taken,))
    with pytest.raises(RefusedError, match=rf"kafka: port {taken} is held by pid {os.getpid()}"):
        platform.refuse_taken_ports([service])


def test_all_taken_ports_are_named_at_once(tmp_path: Path, taken: int) -> None:
    platform = Platform(load_settings(tmp_path, {})[0])
    first = Service("kafka", ("x",), Runs(), ports=(taken,))
    with pytest.raises(RefusedError) as caught:
        platform.refuse_taken_ports([first, replace(first, name="redis")])
    assert str(caught.value).count(str(taken)) == 2


def test_two_ups_at_a_time_are_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    platform = Platform(load_settings(tmp_path, {})[0])
    with platform.lock(), pytest.raises(RefusedError, match=f"pid {os.getpid()}"), platform.lock():
        raise AssertionError("the second must not get the lock")
    with platform.lock():
        pass
