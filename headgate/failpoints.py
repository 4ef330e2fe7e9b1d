"""Failpoints: named places of a driver at which a torture installation can make it die, freeze or fail.

They are compiled in and inert: in any installation but a torture kit's own, `hit` is one look into an
empty dictionary. What arms them is the environment's name, `torture`, which only the kit and the tests
use, with orders as files:

    <state>/failpoints/<id>.json    {"name": …, "action": …, "hit": n, "seconds": s, "epoch": e}
    <state>/failpoints/<id>.fired   the same order, carried out: never again, whichever driver comes
    <state>/failpoints/seen/<name>  that place was reached by some driver

A contract cannot arm anything. A driver of another environment that finds the folder refuses to start:
orders to kill drivers, in the state of an installation that matters, are not to be passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from headgate.errors import HeadgateError, RefusedError
from headgate.settings import Settings

__all__ = [
    "BOUNDARIES",
    "NAMES",
    "TORTURE",
    "WATCH",
    "FailpointError",
    "Order",
    "arm",
    "disarm",
    "hit",
    "place",
]

TORTURE = "torture"  # the name of the environment in which failpoints are armed

# The commit boundaries of a batch, in the order in which one batch meets them.
_RECORDS = (
    "records.gate",
    "records.before_delta",
    "records.after_delta",
    "records.before_redis",
    "records.after_redis",
    "records.before_quarantine",
    "records.after_quarantine",
    "records.before_books",
    "records.after_books",
    "records.before_commit",
)
_STATEFUL = (
    "stateful.gate",
    "stateful.before_delta",
    "stateful.after_delta",
    "stateful.before_redis",
    "stateful.after_redis",
    "stateful.before_commit",
)
BOUNDARIES = (*_RECORDS, *_STATEFUL)
WATCH = "driver.watch"  # the driver's main thread, twice a second, before it looks at its claim
NAMES = (*BOUNDARIES, WATCH)

Action = Literal["kill", "stop", "raise", "sleep", "hold"]


class FailpointError(HeadgateError):
    """Raised on order of a failpoint."""


@dataclass(frozen=True, slots=True)
class Order:
    """What shall happen at a name: at the `hit`-th time that one driver reaches it, once for all drivers.

    `sleep` is carried out each time from then on; `hold` blocks the thread until the order's file is
    gone. With `epoch` it is for that incarnation alone.
    """

    name: str
    action: Action
    hit: int = 1
    seconds: float = 0.0
    epoch: int | None = None


_armed: dict[str, Callable[[], None]] = {}


def hit(name: str) -> None:
    """Say that a boundary is reached. Costs one look into an empty dictionary where nothing is armed."""
    point = _armed.get(name)
    if point is not None:
        point()


def arm(settings: Settings, epoch: int) -> None:
    """Arm this process in a torture installation. Raises RefusedError for orders found anywhere else."""
    folder = _folder(settings)
    if settings.env != TORTURE:
        if folder.exists():
            raise RefusedError(
                f"there are failpoints in {folder}, and this is the environment {settings.env!r}",
                expected=f"none: only a torture installation, environment {TORTURE!r}, has them",
                help=f"find out who put them there, then remove {folder}",
            )
        return
    for name in NAMES:
        _armed[name] = _Point(name, folder, epoch)


def disarm() -> None:
    """Make every failpoint of this process inert again."""
    _armed.clear()


def place(settings: Settings, identity: str, order: Order) -> Path:
    """Give an order; the file, which gets the ending `.fired` when it has been carried out."""
    if settings.env != TORTURE or order.name not in NAMES:
        raise RefusedError(
            f"no failpoint {order.name!r} can be armed in the environment {settings.env!r}",
            expected=f"the environment {TORTURE!r} and one of {', '.join(NAMES)}",
        )
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{identity}"
    draft.write_text(json.dumps(asdict(order)), encoding="utf-8")
    return draft.replace(folder / f"{identity}.json")


def _folder(settings: Settings) -> Path:
    return settings.state / "failpoints"


class _Point:
    """One armed name in one driver: counts its hits, and looks for orders at each."""

    def __init__(self, name: str, folder: Path, epoch: int) -> None:
        self._name = name
        self._folder = folder
        self._epoch = epoch
        self._hits: dict[str, int] = {}
        self._seen = False

    def __call__(self) -> None:
        if not self._seen:
            (self._folder / "seen").mkdir(parents=True, exist_ok=True)
            (self._folder / "seen" / self._name).touch()
            self._seen = True
        for path in sorted(self._folder.glob("*.json")):
            order = _read(path)
            if order is None or order.name != self._name or order.epoch not in (None, self._epoch):
                continue
            self._hits[path.stem] = self._hits.get(path.stem, 0) + 1
            if self._hits[path.stem] >= order.hit:
                _carry_out(order, path)


def _read(path: Path) -> Order | None:
    try:
        data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # carried out by another thread or driver meanwhile
    return Order(**data)


def _carry_out(order: Order, path: Path) -> None:
    if order.action == "sleep":
        time.sleep(order.seconds)
        return
    fired = path.with_suffix(".fired")
    try:
        path.rename(fired)  # first of all: what kills must not be found again by the next driver
    except FileNotFoundError:
        return
    if order.action == "hold":
        while fired.exists():
            time.sleep(0.02)
    elif order.action == "raise":
        raise FailpointError(f"failpoint {order.name}: ordered to fail")
    else:
        _signal_family(signal.SIGKILL if order.action == "kill" else signal.SIGSTOP)


def _signal_family(number: signal.Signals) -> None:
    """The JVM first: a driver is both, and half of one frozen is another fault."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.send_signal(number)
    os.kill(os.getpid(), number)
