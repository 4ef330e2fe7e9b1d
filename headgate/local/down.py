"""`headgate down`: who asks goes before who answers, so that nobody sees a stop that nobody asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from headgate.errors import HeadgateError
from headgate.local.drivers import end_drivers, live_drivers, live_processes
from headgate.local.platform import Platform
from headgate.local.records import all_records, end, family, read_record
from headgate.local.services import Service, services_of, stop_order
from headgate.settings import Settings

__all__ = ["down"]

ACTOR = "headgate down"
# A batch of half a million records has to end; past this a driver is killed and repeats its batch later.
SUSPEND_SECONDS = 90.0
KILL_SECONDS = 10.0
ANSWER_SECONDS = 15.0  # a supervisor that was killed is back and leads within so long
PAUSE = 0.2

Report = Callable[[str, float], None]


def down(settings: Settings, report: Report) -> bool:
    """Stop everything of this installation; True when something was stopped.

    Works by records where the process manager or the supervisor is dead. What is desired stays
    desired: the next `up` goes on from the checkpoints.
    """
    platform = Platform(settings)
    with platform.lock():
        stopped = False
        waves = stop_order(services_of(settings))
        for wave in (wave for wave in waves if wave[0].group != "base"):
            stopped |= _stop_wave(platform, wave, report)
        stopped |= _stop_streams(platform, report)
        for wave in (wave for wave in waves if wave[0].group == "base"):
            stopped |= _stop_wave(platform, wave, report)
            # What a supervisor that could not be asked has started meanwhile: it is gone now.
            end_drivers(settings.state, SUSPEND_SECONDS, KILL_SECONDS)
        stopped |= _stop_leftovers(platform, report)
        if platform.manager.running:
            began = time.monotonic()
            platform.manager.shutdown()
            report("process manager", time.monotonic() - began)
            stopped = True
    return stopped


def _stop_streams(platform: Platform, report: Report) -> bool:
    """Every driver commits its running batch and ends; the supervisor keeps what is desired."""
    state = platform.settings.state
    began = time.monotonic()
    # Before anybody looks for drivers: one that is about to be started again must not be.
    suspended = _suspend(platform)
    streams = sorted({process.stream for process in live_drivers(state)})
    if not streams and not live_processes(state):
        return False
    if suspended:
        deadline = time.monotonic() + SUSPEND_SECONDS
        while live_processes(state) and time.monotonic() < deadline:
            time.sleep(PAUSE)
    killed = end_drivers(state, SUSPEND_SECONDS / 2 if live_processes(state) else 0, KILL_SECONDS)
    names = ", ".join(streams)
    text = f"streams {names}" + (f" ({len(killed)} had to be killed)" if killed else "")
    report(text, time.monotonic() - began)
    return True


def _suspend(platform: Platform) -> bool:
    """Ask the supervisor, which may be restarting; False when it is dead or does not answer in time."""
    from headgate.streams.client import client_from

    deadline = time.monotonic() + ANSWER_SECONDS
    while _lives(platform, "supervisor"):
        try:
            with client_from(platform.settings) as client:
                client.suspend(ACTOR)
        except HeadgateError:
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)
        else:
            return True
    return False


def _lives(platform: Platform, name: str) -> bool:
    record = read_record(platform.layout.records, name)
    return record is not None and bool(family(record))


def _stop_wave(platform: Platform, wave: Sequence[Service], report: Report) -> bool:
    with ThreadPoolExecutor(len(wave)) as pool:
        return any(list(pool.map(lambda service: _stop(platform, service, report), wave)))


def _stop(platform: Platform, service: Service, report: Report) -> bool:
    began = time.monotonic()
    record = read_record(platform.layout.records, service.name)
    lived = _lives(platform, service.name)
    if platform.manager.running:
        platform.manager.stop(service.name)
    if record is not None:
        end(record, service.stop_seconds)
        (platform.layout.records / f"{service.name}.json").unlink(missing_ok=True)
    if lived:
        report(service.name, time.monotonic() - began)
    return lived


def _stop_leftovers(platform: Platform, report: Report) -> bool:
    """What runs by records of other settings, such as a producer that was taken off the list."""
    stopped = False
    for record in all_records(platform.layout.records):
        if family(record):
            end(record, KILL_SECONDS)
            report(f"{record.name} (of earlier settings)", KILL_SECONDS)
            stopped = True
        (platform.layout.records / f"{record.name}.json").unlink(missing_ok=True)
    return stopped
