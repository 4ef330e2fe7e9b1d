from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.local.drivers import end_drivers, live_drivers, live_processes
from headgate.streams import proc
from headgate.streams.handover import RunnerNote, write_runner


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def _noted(state: Path, pid: int, **changes: Any) -> None:
    seen = proc.read(pid)
    assert seen is not None
    note: dict[str, Any] = {
        "stream": "orders",
        "epoch": 1,
        "generation": 1,
        "contract_hash": "c",
        "nonce": "n",
        "runner_pid": pid,
        "runner_start": 0.0,
        "driver_pid": pid,
        "driver_start": 0.0,
        "driver_ticks": seen.ticks,
        "boot_id": proc.boot_id(),
        "runner_ticks": seen.ticks,
    }
    folder = state / "streams" / "orders"
    folder.mkdir(parents=True, exist_ok=True)
    write_runner(folder, RunnerNote(**{**note, **changes}))


def test_what_a_runner_wrote_down_is_found_while_it_lives(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    _noted(tmp_path, sleeper.pid)
    assert [(each.stream, each.role) for each in live_processes(tmp_path)] == [
        ("orders", "driver"),
        ("orders", "runner"),
    ]
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert live_processes(tmp_path) == []  # nobody has reaped it: a zombie is dead


@pytest.mark.parametrize("other", [{"driver_ticks": 1, "runner_ticks": 1}, {"boot_id": "before the reboot"}])
def test_another_process_of_the_same_number_is_neither_counted_nor_ended(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], other: dict[str, Any]
) -> None:
    _noted(tmp_path, sleeper.pid, **other)
    assert live_processes(tmp_path) == []
    assert end_drivers(tmp_path, 1, 1) == []
    assert sleeper.poll() is None


def test_a_driver_is_asked_before_it_is_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    _noted(tmp_path, sleeper.pid)
    assert end_drivers(tmp_path, 30, 1) == []
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_torn_note_is_left_to_the_supervisor(tmp_path: Path) -> None:
    folder = tmp_path / "streams" / "orders"
    folder.mkdir(parents=True)
    (folder / "runner-1.json").write_text('{"driver_pid": 1', encoding="utf-8")
    (folder / "runner-x.json").write_text("{}", encoding="utf-8")
    assert live_drivers(tmp_path) == []
