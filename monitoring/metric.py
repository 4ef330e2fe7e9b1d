"""What a definition of a metric says, and short ways to write one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

__all__ = ["Metric", "Process", "counter", "gauge", "histogram", "info"]

Process = Literal["driver", "exporter", "supervisor", "producer", "serving"]
Kind = Literal["counter", "gauge", "histogram", "info"]

_UNITS = ("seconds", "bytes", "ratio")  # Prometheus's base units, as a name's last word


@dataclass(frozen=True, slots=True)
class Metric:
    """One definition. `processes` emit it, the first is its owner; `unit` is the name's unit or ""."""

    name: str
    type: Kind
    unit: str
    help: str
    labels: tuple[str, ...]
    processes: tuple[Process, ...]
    buckets: tuple[float, ...] = ()

    @property
    def process(self) -> Process:
        return self.processes[0]

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which Prometheus stores it."""
        if self.type == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


def _metric(kind: Kind, name: str, labels: tuple[str, ...], processes: str, help: str, **more: Any) -> Metric:
    unit = name.rsplit("_", 1)[-1]
    owners = cast("tuple[Process, ...]", tuple(processes.split()))
    return Metric(f"headgate_{name}", kind, unit if unit in _UNITS else "", help, labels, owners, **more)


counter = partial(_metric, "counter")
gauge = partial(_metric, "gauge")
histogram = partial(_metric, "histogram")
info = partial(_metric, "info")
