"""`headgate doctor`: every dependency tested, each with what it found and how to repair it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from headgate.address import split_host_port
from headgate.contract.frozen import ContractStore
from headgate.errors import HeadgateError, RefusedError
from headgate.local import jars
from headgate.local.health import Check, Http, Tcp
from headgate.local.java import find_java
from headgate.local.platform import Platform
from headgate.local.ports import holder_of, is_free
from headgate.local.services import Service, missing_binaries, services_of
from headgate.replays.model import size_of
from headgate.settings import HttpSettings, Settings
from headgate.tables.conditional import require_conditional_put

__all__ = ["Finding", "examine", "memory_needed"]

GIB = 1024**3
DISK_NEEDED = 5 * GIB
# Resident, measured on an idle platform: the broker, Airflow's parts, and our own small processes.
BASE_MEMORY = int(2.5 * GIB)
# Beside the heap: metaspace, code cache, direct buffers, and the driver's Python.
DRIVER_OVERHEAD = int(0.6 * GIB)
UNITS = {"k": 1024, "m": 1024**2, "g": GIB, "t": 1024 * GIB}


@dataclass(frozen=True, slots=True)
class Finding:
    """One tested thing. `failed` counts; a warning costs something and does not stop the platform."""

    name: str
    failed: bool
    detail: str
    help: str = ""
    warning: bool = False

    @property
    def mark(self) -> str:
        return "FAILED" if self.failed else "warning" if self.warning else "ok"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which one would repair them. A test that breaks is a finding."""
    platform = Platform(settings)
    tests: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("Java", _java),
        ("jars", lambda: _jars(settings)),
        ("binaries", _binaries),
        ("disk", lambda: _disk(settings)),
        ("tables", lambda: _tables(settings)),
        ("replays", lambda: _replays(settings)),
        ("memory", lambda: _memory(settings)),
        ("process manager", lambda: _manager(platform)),
        ("services", lambda: _services(platform)),
        ("schema registry", lambda: _registry(settings)),
    ]
    return [finding for name, test in tests for finding in _guarded(name, test)]


def _guarded(name: str, test: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(test())
    except HeadgateError as error:
        return [Finding(name, True, error.message, error.help or "")]


def _services(platform: Platform) -> Iterator[Finding]:
    try:
        services = services_of(platform.settings)
    except RefusedError:
        yield from _elsewhere(platform.settings)
        return
    for service in services:
        yield from _service(platform, service)


def _elsewhere(settings: Settings) -> Iterator[Finding]:
    """Services that others run: whether they can be reached is all that is ours to know."""
    checks: list[tuple[str, str, Check]] = []
    for broker in settings.kafka.brokers.split(","):
        checks.append(("kafka", broker.strip(), Tcp(*split_host_port(broker))))
    redis = urlsplit(settings.redis.url)
    checks.append(("redis", redis.netloc.rpartition("@")[2], Tcp(redis.hostname or "", redis.port or 6379)))
    checks.append(("supervisor", settings.supervisor_url, Http(f"{settings.supervisor_url}/healthz")))
    for name, path in (("exporter", "healthz"), ("serving", "health")):
        section: HttpSettings = getattr(settings, name)
        checks.append((name, section.url, Http(f"{section.url}/{path}")))
    for name, address, check in checks:
        health = check()
        help = "" if health.ok else f"see the settings of {name} below, and that it runs"
        yield Finding(name, not health.ok, address if health.ok else health.detail, help)


def _registry(settings: Settings) -> Iterator[Finding]:
    """Nothing without one: only contracts that name a subject need it."""
    if settings.registry.url is None:
        return
    url = urlsplit(settings.registry.url)
    health = Tcp(url.hostname or "", url.port or (443 if url.scheme == "https" else 80))()
    address = url.netloc.rpartition("@")[2]
    help = "" if health.ok else "see the settings of registry below: records of a new schema wait for it"
    yield Finding("schema registry", not health.ok, address if health.ok else health.detail, help)


def memory_needed(heaps: list[str]) -> int:
    """Bytes that the platform and drivers with these heaps take."""
    return BASE_MEMORY + sum(_bytes(heap) + DRIVER_OVERHEAD for heap in heaps)


def _java() -> Iterator[Finding]:
    java = find_java()
    yield Finding("Java", False, f"{java.major} at {java.path}")


def _jars(settings: Settings) -> Iterator[Finding]:
    for jar_set in jars.jar_sets(settings):
        lacking = jars.missing(jar_set)
        name = f"{jar_set.name} jars"
        if lacking:
            detail = f"{len(lacking)} of {len(jar_set.jars)} are missing or wrong in {jar_set.folder}"
            yield Finding(name, True, detail, "make jars")
        else:
            yield Finding(name, False, f"{len(jar_set.jars)} verified in {jar_set.folder}")


def _binaries() -> Iterator[Finding]:
    for name, cost in missing_binaries().items():
        yield Finding(name, False, f"not installed: {cost}", "make setup, with root or sudo", warning=True)


def _disk(settings: Settings) -> Iterator[Finding]:
    place = settings.state
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{free / GIB:.1f} GiB free below {settings.state}"
    if free < DISK_NEEDED:
        yield Finding(
            "disk",
            True,
            f"{detail}, less than {DISK_NEEDED / GIB:.0f} GiB",
            "free some, or set roots.state in headgate.toml to a larger disk",
        )
    else:
        yield Finding("disk", False, detail)


def _tables(settings: Settings) -> Iterator[Finding]:
    """Nothing for tables on this disk, which is looked at as a whole."""
    if isinstance(settings.tables, Path):
        return
    require_conditional_put(settings.tables)
    yield Finding("tables", False, f"{settings.tables}: its store refuses a second put of one key")


def _replays(settings: Settings) -> Iterator[Finding]:
    """Nobody waits for a replay: what it leaves, and that it failed, is seen where one looks for trouble."""
    places = sorted(path.parent for path in (settings.state / "replays").glob("*/*/tables"))
    if not places:
        return
    told = ", ".join(f"{each.name} of {each.parent.name} {size_of(each) / GIB:.2f} GiB" for each in places)
    help = "headgate replay list; headgate replay discard REPLAY removes one"
    yield Finding("replays", False, f"on disk: {told}", help, warning=True)


def _memory(settings: Settings) -> Iterator[Finding]:
    store = ContractStore(settings.state)
    jobs = {name: store.get(applied.hash).contract.job for name, applied in store.applied().items()}
    needed = memory_needed([job.memory for job in jobs.values()])
    total = psutil.virtual_memory().total
    detail = (
        f"{needed / GIB:.1f} GiB for the services and {len(jobs)} streams, the machine has {total / GIB:.1f}"
    )
    if needed > total:
        yield Finding(
            "memory",
            True,
            detail,
            "lower job.memory in the contracts, or stop a stream: headgate stop PIPELINE",
        )
    else:
        yield Finding("memory", False, detail)


def _manager(platform: Platform) -> Iterator[Finding]:
    orphans = [record.name for record in platform.live_records()]
    if platform.manager.running:
        yield Finding("process manager", False, "runs")
    elif orphans:
        detail = f"is dead, and {', '.join(orphans)} run without it"
        yield Finding("process manager", True, detail, "headgate up takes them over")
    else:
        yield Finding("process manager", True, "does not run", "headgate up")


def _service(platform: Platform, service: Service) -> Iterator[Finding]:
    name = service.name
    if not platform.alive(service):
        taken = [port for port in service.ports if not is_free(service.host, port)]
        holders = "; ".join(str(holder_of(port) or f"port {port} is taken") for port in taken)
        if holders:
            yield Finding(
                name, True, f"does not run, and {holders}", "end that process, or choose another port"
            )
        elif service.group == "producer" and name.removeprefix("producer-") not in platform.applied():
            yield Finding(
                name, False, "does not run: its contract is not applied", "headgate apply", warning=True
            )
        else:
            yield Finding(name, True, "does not run", "headgate up")
        return
    health = service.check()
    if health.ok:
        yield Finding(name, False, f"healthy {service.address}".rstrip())
    else:
        log = platform.layout.log / f"{name}.log"
        yield Finding(name, True, f"runs and is not healthy: {health.detail}", f"see {log}")


def _bytes(heap: str) -> int:
    unit = heap[-1].lower()
    return int(heap[:-1]) * UNITS[unit] if unit in UNITS else int(heap)
