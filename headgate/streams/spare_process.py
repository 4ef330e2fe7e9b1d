"""A spare as a process: started, heard when it is ready, handed over or ended; what is left is found."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from headgate.settings import Settings
from headgate.streams import proc, processes
from headgate.streams.launch import driver_environment
from headgate.streams.spare_runner import FAILED_LOG, READY, WORK, clear_files

__all__ = ["SpareProcess", "loaded_from", "spares_folder", "start_spare", "sweep"]

_END_SECONDS = 5.0
_CODE = ("headgate", "spark", "serving")


@dataclass(slots=True)
class SpareProcess:
    """One spare; `memory` and what it has loaded cannot change any more."""

    nonce: str
    memory: str
    loaded: str
    log: Path
    runner: subprocess.Popen[bytes]
    ready: bool = False

    @property
    def alive(self) -> bool:
        return self.runner.poll() is None

    def look(self) -> bool:
        """Whether it is ready to become a driver."""
        assert self.runner.stdout is not None
        self.ready = self.ready or self.runner.stdout.read() == READY
        return self.ready

    def give(self, launch: processes.Launch) -> bool:
        """Tell it whose driver it is; False where it is gone."""
        assert self.runner.stdin is not None and self.runner.stdout is not None
        order = json.dumps(asdict(processes.order_of(launch))).encode() + b"\n"
        try:
            with self.runner.stdin, self.runner.stdout:
                self.runner.stdin.write(order)
                self.runner.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def end(self) -> None:
        """Kill it, stopped or not, with all that it started."""
        assert self.runner.stdin is not None and self.runner.stdout is not None
        self.runner.stdin.close()
        self.runner.stdout.close()
        _kill(self.nonce)
        # What was killed is not seen any more a moment before it can be reaped.
        with suppress(subprocess.TimeoutExpired):
            self.runner.wait(_END_SECONDS)
        clear_files(self.log)


def start_spare(settings: Settings, command: Sequence[str], memory: str) -> SpareProcess:
    """Raises OSError."""
    folder = spares_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    nonce = f"{processes.nonce_prefix(folder)}{secrets.token_hex(8)}"
    log = folder / f"{nonce}.log"
    loaded = loaded_from(settings)
    arguments = ["--spare", "--nonce", nonce, "--log", str(log), "--", *command]
    runner = subprocess.Popen(
        [sys.executable, "-m", proc.RUNNER_MODULE, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=settings.home,
        env=driver_environment(settings),
        start_new_session=True,
    )
    assert runner.stdout is not None
    os.set_blocking(runner.stdout.fileno(), False)
    return SpareProcess(nonce, memory, loaded, log, runner)


def spares_folder(settings: Settings) -> Path:
    return settings.state / "spares"


def loaded_from(settings: Settings) -> str:
    """Names the code and the jars as they are on the disk now: a driver must not be of two versions."""
    seen = hashlib.sha256()
    for path in sorted([*_sources(), *settings.jars_dir.glob("*.jar")]):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue  # taken away this moment, which the next look tells from before
        seen.update(f"{path} {found.st_mtime_ns} {found.st_size}\n".encode())
    return seen.hexdigest()


def _sources() -> Iterator[Path]:
    for package in _CODE:
        yield from (Path(__file__).parents[2] / package).rglob("*.py")


def sweep(settings: Settings) -> None:
    """End every spare that an earlier supervisor left, frozen as it may be, and clear up after all of them.
    The ones that became drivers are noted in their streams' folders, since before they were told."""
    folder = spares_folder(settings)
    taken = {mark for path in (settings.state / "streams").glob("*") for mark in processes.marks_of(path)}
    own = processes.nonce_prefix(folder)
    nonces = {nonce for nonce in proc.nonces() if nonce.startswith(own)} | set(proc.runners(own).values())
    for nonce in nonces - taken:
        _kill(nonce)
    for path in folder.glob(f"{own}*"):
        if path.suffix in (".log", WORK) and path.stem not in taken and path.name != FAILED_LOG:
            clear_files(path.with_suffix(".log"))


def _kill(nonce: str) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while processes.kill_all(nonce, runners=True) and time.monotonic() < deadline:
        time.sleep(0.02)
