"""The launcher with real processes of the test's own: a record decides who is ended, adopted or left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headgate.local.records import Record, end, family, is_alive, read_record

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
WITH_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
    "print('up', flush=True); time.sleep(60)",
]

Launch = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    started: list[subprocess.Popen[bytes]] = []

    def start(
        command: list[str], digest: str = "1", whole_tree: bool = True, stdin: int | None = None
    ) -> subprocess.Popen[bytes]:
        spec = {"command": command, "environ": {}, "stop_seconds": 5, "whole_tree": whole_tree}
        (tmp_path / "spec").write_text(json.dumps(spec), encoding="utf-8")
        argv = [sys.executable, "-m", "headgate.local.launch", "svc", "--run", str(tmp_path)]
        argv += ["--log", str(tmp_path / "svc.log"), "--spec", str(tmp_path / "spec"), "--digest", digest]
        # As the process manager does: a process group of its own.
        started.append(subprocess.Popen(argv, process_group=0, stdin=stdin))
        return started[-1]

    yield start
    record = read_record(tmp_path, "svc")
    if record is not None:
        end(record, 2)
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "not within 15 s"
        time.sleep(0.02)


def _ups(tmp_path: Path) -> int:
    log = tmp_path / "svc.log"
    return log.read_text(encoding="utf-8").splitlines().count("up") if log.exists() else 0


def _record(tmp_path: Path) -> Record:
    record = read_record(tmp_path, "svc")
    assert record is not None
    return record


def test_the_service_becomes_the_launched_process_and_is_recorded(launch: Launch, tmp_path: Path) -> None:
    process = launch(SLEEP)
    _until(lambda: _ups(tmp_path) == 1)
    assert _record(tmp_path).pid == process.pid
    assert is_alive(_record(tmp_path))


def test_the_managers_pipe_keeps_a_reader_while_the_service_lives(launch: Launch, tmp_path: Path) -> None:
    """Without one `poll` answers an error at once and for ever, and supervisord takes a core."""
    process = launch(SLEEP, stdin=subprocess.PIPE)
    _until(lambda: _ups(tmp_path) == 1)
    assert process.stdin is not None
    poll = select.poll()
    poll.register(process.stdin, select.POLLIN)
    assert poll.poll(0) == []
    process.kill()
    process.wait()
    assert [event for _, event in poll.poll(5000)] == [select.POLLERR]
    process.stdin.close()


def test_a_living_service_is_adopted_not_started_twice(launch: Launch, tmp_path: Path) -> None:
    first = launch(SLEEP)
    _until(lambda: _ups(tmp_path) == 1)
    second = launch(SLEEP)
    _until(lambda: "adopted svc" in (tmp_path / "svc.log").read_text(encoding="utf-8"))
    assert _record(tmp_path).pid == first.pid
    first.kill()
    first.wait()
    assert second.wait(15) != 0  # the manager takes that for an end, and starts the service again
    assert _ups(tmp_path) == 1


def test_ending_the_adopter_ends_the_adopted(launch: Launch, tmp_path: Path) -> None:
    first = launch(SLEEP)
    _until(lambda: _ups(tmp_path) == 1)
    second = launch(SLEEP)
    _until(lambda: "adopted svc" in (tmp_path / "svc.log").read_text(encoding="utf-8"))
    second.send_signal(signal.SIGTERM)
    assert second.wait(15) == 0
    assert first.wait(15) == -signal.SIGTERM


def test_a_service_that_is_not_the_same_any_more_is_replaced(launch: Launch, tmp_path: Path) -> None:
    first = launch(SLEEP)
    _until(lambda: _ups(tmp_path) == 1)
    second = launch(SLEEP, digest="2")
    _until(lambda: _ups(tmp_path) == 2)
    assert first.wait(15) == -signal.SIGTERM
    assert _record(tmp_path).pid == second.pid


def test_children_that_outlived_their_service_are_ended_before_the_next(
    launch: Launch, tmp_path: Path
) -> None:
    first = launch(WITH_CHILD)
    _until(lambda: _ups(tmp_path) == 1)
    before = _record(tmp_path)
    assert len(family(before)) == 2
    first.kill()
    first.wait()
    assert len(family(before)) == 1
    launch(SLEEP)
    _until(lambda: _ups(tmp_path) == 2)
    assert family(before) == []


def test_descendants_in_sessions_of_their_own_are_kept_on_request(launch: Launch, tmp_path: Path) -> None:
    first = launch(WITH_CHILD, whole_tree=False)
    _until(lambda: _ups(tmp_path) == 1)
    record = _record(tmp_path)
    assert family(record) == [first.pid]
    [child] = set(family(replace(record, whole_tree=True))) - {first.pid}
    end(record, 5)
    first.wait()
    os.kill(child, 0)  # still there
    os.kill(child, signal.SIGKILL)


def test_a_pid_that_changed_hands_is_neither_alive_nor_ours(launch: Launch, tmp_path: Path) -> None:
    stranger = subprocess.Popen([*SLEEP[:2], "import time; time.sleep(60)"])
    try:
        launch(SLEEP)
        _until(lambda: _ups(tmp_path) == 1)
        # Two processes can start in one clock tick, but a pid is not given out again within one.
        record = _record(tmp_path)
        foreign = replace(record, pid=stranger.pid, ticks=record.ticks - 100, marker="svc@other#1")
        assert not is_alive(foreign)
        assert family(foreign) == []
        assert end(foreign, 0.1) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_record_of_before_the_reboot_names_nobody(launch: Launch, tmp_path: Path) -> None:
    launch(SLEEP)
    _until(lambda: _ups(tmp_path) == 1)
    old = replace(_record(tmp_path), boot="another boot")
    assert not is_alive(old)
    assert family(old) == []


def test_a_torn_record_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "svc.json").write_text('{"name": "svc"', encoding="utf-8")
    assert read_record(tmp_path, "svc") is None
    (tmp_path / "svc.json").write_text('{"name": "svc"}', encoding="utf-8")
    assert read_record(tmp_path, "svc") is None


def test_a_large_log_is_put_aside_at_the_start(launch: Launch, tmp_path: Path) -> None:
    log = tmp_path / "svc.log"
    with log.open("wb") as file:
        file.truncate(50 * 1024 * 1024 + 1)
    launch(SLEEP)
    _until(lambda: (tmp_path / "svc.log.1").exists() and _ups(tmp_path) == 1)
    assert log.stat().st_size < 1000


def test_a_command_that_is_not_there_is_named_in_the_log(launch: Launch, tmp_path: Path) -> None:
    process = launch(["/nonexistent/program"])
    assert process.wait(15) == 127
    assert "/nonexistent/program cannot be started" in (tmp_path / "svc.log").read_text(encoding="utf-8")


def test_settings_come_from_the_specification_never_from_the_manager(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_ENV", "of-the-manager")
    monkeypatch.setenv("ORDINARY", "kept")
    show = "import os; print(os.environ.get('HEADGATE_ENV'), os.environ['ORDINARY'])"
    launch([sys.executable, "-c", show]).wait(15)
    assert (tmp_path / "svc.log").read_text(encoding="utf-8").split() == ["None", "kept"]
