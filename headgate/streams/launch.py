"""How a driver's process is made from a stream's record: command, folders, environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from headgate.checkpoints.origin import write_origin
from headgate.settings import Settings
from headgate.streams import handover, processes
from headgate.streams.record import Incarnation, StreamRecord

__all__ = ["Command", "Launcher", "driver_command", "driver_environment"]

Command = Callable[[Incarnation, str], Sequence[str]]
Runner = subprocess.Popen[bytes]
HandOver = Callable[[processes.Launch], Runner | None]


def _nobody(_launch: processes.Launch) -> None:
    return None


def driver_command(incarnation: Incarnation, pipeline: str) -> list[str]:
    """The Spark driver of a pipeline, from its stored contract."""
    command = [sys.executable, "-m", "spark", "--pipeline", pipeline, "--contract", incarnation.contract_hash]
    numbers = ["--generation", str(incarnation.generation), "--epoch", str(incarnation.epoch)]
    return [*command, *numbers]


def driver_environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, "HEADGATE_HOME": str(settings.home), "HEADGATE_ENV": settings.env}


class Launcher:
    def __init__(self, settings: Settings, command: Command = driver_command) -> None:
        self._settings = settings
        self._command = command

    def folder(self, stream: str) -> Path:
        return self._settings.state / "streams" / stream

    def log(self, stream: str) -> Path:
        return self._settings.state / "log" / "streams" / f"{stream}.log"

    def plan(self, record: StreamRecord, now: float, spare: str | None = None) -> Incarnation:
        """The incarnation of the record's epoch, to be written down before it is launched. `spare`: the nonce
        of the spare that is to become its driver."""
        return Incarnation(
            stream=record.stream,
            epoch=record.epoch,
            generation=record.attempted,
            contract_hash=record.contract_hash,
            nonce=spare or processes.new_nonce(self.folder(record.stream), record.epoch),
            started_at=now,
            host=socket.gethostname(),
        )

    def launch(self, record: StreamRecord, intent: Incarnation, hand_over: HandOver = _nobody) -> Runner:
        """Start what was planned; done twice, the second runner finds the first one's lock and ends.

        `hand_over` gives it to the spare that it was planned with; the answer is that one's runner, or None.
        """
        folder = self.folder(record.stream)
        folder.mkdir(parents=True, exist_ok=True)
        handover.drop_old(folder, intent.epoch)
        if not intent.nonce.startswith(processes.nonce_prefix(folder)):
            processes.note_mark(folder, intent.nonce)
        command = [*self._command(intent, record.pipeline)]
        if record.origin is not None:
            note = folder / f"origin-{intent.epoch}.json"
            write_origin(note, record.origin)
            command += ["--origin", str(note)]
        launch = processes.Launch(
            incarnation=intent,
            folder=folder,
            log=self.log(record.stream),
            home=self._settings.home,
            command=command,
            environment=driver_environment(self._settings),
        )
        return hand_over(launch) or processes.spawn(launch)
