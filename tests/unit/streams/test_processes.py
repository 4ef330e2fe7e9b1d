"""Processes as they are: each test starts its own and ends it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.streams import handover, proc, processes
from headgate.streams.exits import ExitWatch
from headgate.streams.journal import Journal
from headgate.streams.record import Incarnation
from headgate.streams.rotation import rotate

SLEEPS = "import time; time.sleep(120)"
NONCE = "0123456789abcdef-7-aa"


def until(what: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEPS], env={**os.environ, proc.NONCE: NONCE})
    until(lambda: proc.nonce_of(process.pid) == NONCE)
    yield process
    process.kill()
    process.wait()


def ticks(pid: int) -> int:
    found = proc.start_ticks(pid)
    assert found is not None
    return found


def test_a_process_is_known_by_id_start_and_nonce_together(sleeper: subprocess.Popen[bytes]) -> None:
    started = ticks(sleeper.pid)
    assert processes.is_driver(sleeper.pid, started, NONCE)
    assert not processes.is_driver(sleeper.pid, started + 1, NONCE)
    assert not processes.is_driver(sleeper.pid, started, NONCE + "x")
    assert not processes.is_driver(None, started, NONCE)
    assert not processes.is_driver(os.getpid(), ticks(os.getpid()), NONCE)


def test_a_stopped_process_lives_and_a_zombie_does_not(sleeper: subprocess.Popen[bytes]) -> None:
    started = ticks(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGSTOP)
    assert processes.is_driver(sleeper.pid, started, NONCE)
    assert processes.kill_all(NONCE) == 1
    until(lambda: not processes.is_driver(sleeper.pid, started, NONCE))
    seen = proc.read(sleeper.pid)  # not reaped: it is there, and dead
    assert seen is not None
    assert not seen.alive
    assert processes.remains(NONCE) == []


def test_a_process_whose_first_thread_has_ended_lives_while_another_runs() -> None:
    # As a killed JVM is, for the moment in which one of its threads is still writing.
    code = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(120,)).start()\n"
    exit_thread = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    code += f"ctypes.CDLL(None).syscall({exit_thread}, 0)"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, proc.NONCE: NONCE})
    try:
        until(lambda: (found := proc.read(process.pid)) is not None and found.state == "Z")
        started = ticks(process.pid)
        assert processes.is_driver(process.pid, started, NONCE)
        assert [one.pid for one in processes.remains(NONCE)] == [process.pid]
        assert processes.kill_all(NONCE) == 1
        until(lambda: not processes.is_driver(process.pid, started, NONCE))
        assert processes.remains(NONCE) == []
    finally:
        process.kill()
        process.wait()


def test_a_process_that_cannot_be_asked_any_more_is_not_dead(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel gives the memory back, and with it the environment, before the process is gone.
    monkeypatch.setattr(proc, "_environ", lambda _: b"")
    assert processes.is_driver(sleeper.pid, ticks(sleeper.pid), NONCE)
    sleeper.kill()
    until(lambda: not processes.is_driver(sleeper.pid, proc.start_ticks(sleeper.pid), NONCE))


def test_a_signal_reaches_only_the_process_that_is_meant(sleeper: subprocess.Popen[bytes]) -> None:
    started = ticks(sleeper.pid)
    assert not processes.terminate(sleeper.pid, started + 1, NONCE)
    assert not processes.terminate(sleeper.pid, started, "other")
    assert sleeper.poll() is None
    assert processes.terminate(sleeper.pid, started, NONCE)
    assert sleeper.wait(20) == -signal.SIGTERM
    assert not processes.terminate(sleeper.pid, started, NONCE)


def test_nonces_of_two_state_folders_never_share_a_prefix(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "s", tmp_path / "b" / "s"
    assert processes.new_nonce(one, 3).startswith(processes.nonce_prefix(one) + "3-")
    assert processes.nonce_prefix(one) != processes.nonce_prefix(other)
    assert processes.new_nonce(one, 3) != processes.new_nonce(one, 3)


def test_a_name_with_spaces_and_parentheses_does_not_confuse_the_reader(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to(sys.executable)
    process = subprocess.Popen([str(odd), "-c", SLEEPS])
    try:
        until(lambda: proc.read(process.pid) is not None)
        found = proc.read(process.pid)
        assert found is not None
        assert (found.parent, found.alive) == (os.getpid(), True)
    finally:
        process.kill()
        process.wait()


class Runner:
    """One runner around a program of the test's."""

    def __init__(self, folder: Path, program: str, epoch: int = 1) -> None:
        self.folder = folder
        self.log = folder / "driver.log"
        self.nonce = processes.new_nonce(folder, epoch)
        begun = Incarnation("s", epoch, 1, "c" * 64, self.nonce, started_at=0.0)
        command = [sys.executable, "-c", program]
        launch = processes.Launch(begun, folder, self.log, folder, command, dict(os.environ))
        self.process = processes.spawn(launch)
        self.epoch = epoch

    def note(self) -> handover.RunnerNote:
        until(lambda: handover.runner_note(self.folder, self.epoch))
        found = handover.runner_note(self.folder, self.epoch)
        assert found is not None
        return found

    def exit(self) -> handover.ExitNote:
        until(lambda: handover.exit_note(self.folder, self.epoch))
        found = handover.exit_note(self.folder, self.epoch)
        assert found is not None
        return found

    def clear(self) -> None:
        until(lambda: processes.kill_all(self.nonce, runners=True) == 0)
        self.process.wait(20)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    started: list[Runner] = []

    def start(program: str, epoch: int = 1) -> Runner:
        started.append(Runner(tmp_path, program, epoch))
        return started[-1]

    yield start
    for runner in started:
        runner.clear()


def test_a_runner_writes_down_who_runs_and_how_it_ended(run: Callable[..., Runner]) -> None:
    runner = run("print('hello', flush=True); raise SystemExit(10)")
    note = runner.note()
    assert (note.stream, note.epoch, note.nonce) == ("s", 1, runner.nonce)
    assert note.runner_pid == runner.process.pid
    ended = runner.exit()
    assert (ended.returncode, ended.signal) == (10, None)
    assert runner.process.wait(20) == 0
    assert "hello" in runner.log.read_text()


def test_a_runner_is_deaf_to_signals_and_its_driver_is_not(run: Callable[..., Runner]) -> None:
    runner = run(SLEEPS)
    note = runner.note()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(note.runner_pid, number)
    assert processes.is_driver(note.driver_pid, note.driver_ticks, runner.nonce)
    assert runner.process.poll() is None
    os.kill(note.driver_pid, signal.SIGTERM)
    assert runner.exit().signal == signal.SIGTERM


def test_a_driver_has_a_session_of_the_runner_and_a_group_of_its_own(run: Callable[..., Runner]) -> None:
    note = run(SLEEPS).note()
    assert os.getsid(note.driver_pid) == note.runner_pid != os.getsid(0)
    assert os.getpgid(note.driver_pid) == note.driver_pid


def test_what_a_killed_driver_leaves_behind_is_killed(run: Callable[..., Runner]) -> None:
    child = "import os, time; os.setsid(); time.sleep(120)"
    program = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(120)"
    )
    runner = run(program)
    note = runner.note()
    until(lambda: len(processes.remains(runner.nonce)) == 2)
    os.kill(note.driver_pid, signal.SIGKILL)
    assert runner.exit().signal == signal.SIGKILL
    until(lambda: processes.remains(runner.nonce) == [])
    assert runner.process.wait(20) == 0


def test_an_epoch_has_one_runner_however_often_it_is_launched(run: Callable[..., Runner]) -> None:
    first = run(SLEEPS)
    note = first.note()
    second = run("raise SystemExit('a second driver')")
    assert second.process.wait(20) != 0
    assert handover.runner_note(first.folder, 1) == note
    assert handover.exit_note(first.folder, 1) is None


def test_a_program_that_is_not_there_is_an_exit_with_127(tmp_path: Path) -> None:
    begun = Incarnation("s", 1, 1, "c" * 64, processes.new_nonce(tmp_path, 1), started_at=0.0)
    log = tmp_path / "driver.log"
    launch = processes.Launch(begun, tmp_path, log, tmp_path, ["/nowhere/python"], dict(os.environ))
    assert processes.spawn(launch).wait(30) == 127
    ended = handover.exit_note(tmp_path, 1)
    assert ended is not None
    assert ended.returncode == 127
    assert "cannot be run" in log.read_text()


def test_no_second_driver_starts_in_a_folder_where_one_lives(
    run: Callable[..., Runner], tmp_path: Path
) -> None:
    first = run(SLEEPS, 1)
    os.kill(first.note().runner_pid, signal.SIGKILL)  # the driver alone holds the folder on
    first.process.wait(20)
    assert handover.held(tmp_path)
    second = run("raise SystemExit('a second driver')", 2)
    assert second.exit().returncode == 75
    assert "another driver of s lives" in second.log.read_text()
    os.kill(first.note().driver_pid, signal.SIGKILL)
    until(lambda: not handover.held(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"epoch": 1}', '"x"', "\x00"])
def test_a_damaged_note_is_told_from_a_missing_one(tmp_path: Path, text: str) -> None:
    for name in ("runner-1.json", "exit-1.json", "status.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(handover.UnreadableNote):
        handover.runner_note(tmp_path, 1)
    with pytest.raises(handover.UnreadableNote):
        handover.exit_note(tmp_path, 1)
    with pytest.raises(handover.UnreadableNote):
        handover.read_report(tmp_path)
    assert handover.runner_note(tmp_path, 2) is None


def test_a_report_of_a_newer_driver_is_read_for_what_is_known(tmp_path: Path) -> None:
    report = {
        "stream": "s",
        "pipeline": "s",
        "epoch": 1,
        "generation": 1,
        "contract_hash": "c",
        "lineage": "l",
        "headgate_version": "9",
        "pid": 1,
        "phase": "running",
        "written_at": 1.0,
        "queries": {"records": {"batch_id": 4, "invented_later": 1}},
        "also_invented": {},
    }
    (tmp_path / "status.json").write_text(json.dumps(report))
    found = handover.read_report(tmp_path)
    assert found is not None
    assert found.queries["records"].batch_id == 4


def test_notes_of_epochs_long_past_are_dropped(tmp_path: Path) -> None:
    for epoch in range(1, 31):
        handover.write_exit(tmp_path, epoch, handover.ExitNote(0, None, 1.0))
        handover.claim(tmp_path, epoch)
    (tmp_path / "status.json").write_text("{}")
    handover.drop_old(tmp_path, 30)
    assert handover.exit_note(tmp_path, 10) is None
    assert handover.exit_note(tmp_path, 11) is not None
    assert handover.claimed(tmp_path, 11)
    assert not handover.claimed(tmp_path, 10)
    assert (tmp_path / "status.json").exists()


def test_an_epoch_is_claimed_once(tmp_path: Path) -> None:
    assert [handover.claim(tmp_path, 4) for _ in range(3)] == [True, False, False]


def test_the_end_of_a_process_wakes_at_once(sleeper: subprocess.Popen[bytes]) -> None:
    woken = threading.Event()
    watch = ExitWatch(woken.set)
    watch.watch(sleeper.pid, NONCE)
    watch.watch(sleeper.pid, NONCE)
    assert not woken.is_set()
    sleeper.kill()
    assert woken.wait(20)
    watch.close()


def test_a_process_that_is_gone_already_wakes_too(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    woken = threading.Event()
    watch = ExitWatch(woken.set)
    watch.watch(sleeper.pid, NONCE)
    assert woken.is_set()
    watch.close()


def test_a_log_is_cut_where_it_lies_and_the_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "s.log"
    with log.open("ab", buffering=0) as writer:
        for number in range(4):
            writer.write(b"%d" % number + b"x" * 99)
            assert rotate(log, limit=100, keep=2)
        assert not rotate(log, limit=100, keep=2)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "s.log.1").read_bytes().startswith(b"3")
    assert (tmp_path / "s.log.2").read_bytes().startswith(b"2")
    assert not (tmp_path / "s.log.3").exists()
    assert not rotate(tmp_path / "missing.log")


def test_the_journal_is_one_json_object_a_line() -> None:
    stream = io.StringIO()
    Journal(stream).write("driver up", level="warning", stream="s", detail='a "quoted"\nline', path=Path("x"))
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["detail"]) == ("driver up", "warning", 'a "quoted"\nline')
