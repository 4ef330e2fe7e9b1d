"""An installation with its own supervisor and one applied stream, whose drivers are real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from driver_process import Stream
from supervised import free_port, until

from headgate.contract.frozen import FrozenContract
from headgate.errors import SettingsError, SupervisorUnavailable
from headgate.settings import Settings, load_settings
from headgate.streams import processes
from headgate.streams.client import SupervisorClient, client_from
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

__all__ = ["SECONDS", "LiveInstallation", "headgate", "live_installation"]

SECONDS = 300.0
COMMAND_SECONDS = 600.0
HEADGATE = str(Path(sys.executable).with_name("headgate"))


@dataclass(frozen=True)
class LiveInstallation:
    """`stream` with its settings, and its supervisor with a client of it."""

    stream: Stream
    client: SupervisorClient
    supervisor: subprocess.Popen[bytes]


@contextmanager
def live_installation(
    root: Path, environ: Mapping[str, str], frozen: FrozenContract
) -> Iterator[LiveInstallation]:
    """Apply the contract below `root` and start a supervisor; in the end every process is ended."""
    own = {
        **environ,
        "HEADGATE_ROOTS_STATE": str(root / "state"),
        "HEADGATE_SPARK_UI": "false",
        "HEADGATE_SUPERVISOR_PORT": str(free_port()),
        "HEADGATE_SUPERVISOR_POLL_SECONDS": "0.2",
    }
    settings, _ = load_settings(environ=own)
    apply_plan(settings, make_plan(settings, [frozen]), by="tests")
    with (root / "supervisor.log").open("wb") as log:
        supervisor = subprocess.Popen(
            [HEADGATE, "supervisor"], env={**os.environ, **own}, stdout=log, stderr=log
        )
    try:
        until("a supervisor", lambda: _answers(settings), seconds=SECONDS)
        with client_from(settings) as client:
            yield LiveInstallation(Stream(own, frozen), client, supervisor)
    finally:
        supervisor.terminate()
        supervisor.wait(60)
        _end_drivers(settings, frozen.pipeline)


def headgate(stream: Stream, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in the stream's installation."""
    done = subprocess.run(
        [HEADGATE, *arguments],
        env={**os.environ, **stream.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def _answers(settings: Settings) -> bool:
    try:
        with client_from(settings) as client:
            return bool(client.health()["rounds"])
    except (SettingsError, SupervisorUnavailable):  # before its token is there, and before it listens
        return False


def _end_drivers(settings: Settings, pipeline: str) -> None:
    """Of the stream and of its replays, which outlive their supervisor on purpose."""
    for folder in (settings.state / "streams" / pipeline, *(settings.state / "replays").glob("*/*")):
        folder.mkdir(parents=True, exist_ok=True)
        until("all drivers dead", partial(_dead, processes.marks_of(folder)))


def _dead(prefix: str) -> bool:
    return processes.kill_all(prefix, runners=True) == 0
