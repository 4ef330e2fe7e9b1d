"""`headgate status`: one screen, or JSON, also while parts of the platform are down.

Exit codes: 0 all known · 4 no such pipeline · 69 a source does not answer; what is known is still shown.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import out, print_json, print_table, reader_gone, say
from headgate.errors import NotFoundError, UnavailableError
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from monitoring.snapshot import PipelineSnapshot, PlatformSnapshot

__all__ = ["register"]

# Only what does not answer is waited for so long: longer than each source's own limit.
DEADLINE_SECONDS = 35.0
WATCH_SECONDS = 2.0
COLUMNS = (
    "pipeline", "state", "wanted", "lag", "rows/s", "rows read", "quarantined", "committed", "restarts",
    "verdict", "remarks",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("status")(status)


def status(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all without it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="An array of pipelines, stable.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again; ends with Ctrl-C.")
    ] = False,
) -> None:
    """Show every stream: state, lag, rows, quarantine, last commit, verdict, restarts."""
    from monitoring.monitor import Monitor

    settings, _ = load_settings()
    # What cannot be read is told once, at the end, and not by every library on its way there.
    for chatty in ("monitoring", "httpx", "kafka"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    if watch:
        _watch(settings, pipeline)
        return
    snapshot = Monitor(settings, background=False).read_once(DEADLINE_SECONDS)
    chosen = _choose(snapshot, pipeline)
    if as_json:
        print_json([item.to_json() for item in chosen])
    else:
        _show(chosen, snapshot.at)
        if pipeline is not None:
            _details(chosen[0], snapshot.at)
            _broken_rules(chosen[0])
            _replays(settings, pipeline)
    _complain(snapshot)


def _watch(settings: Settings, pipeline: str | None) -> None:
    from monitoring.monitor import Monitor

    monitor = Monitor(settings, background=False)
    monitor.start()
    try:
        while not reader_gone():
            snapshot = monitor.snapshot()
            if out.is_terminal:
                out.clear()
            out.print(time.strftime("%H:%M:%S"), highlight=False)
            _show(_choose(snapshot, pipeline, strict=False), snapshot.at)
            for source in snapshot.down():
                say(f"{source.name}: {source.error}")
            time.sleep(WATCH_SECONDS)
    finally:
        monitor.stop()


def _choose(
    snapshot: PlatformSnapshot, pipeline: str | None, *, strict: bool = True
) -> list[PipelineSnapshot]:
    if pipeline is None:
        return list(snapshot.pipelines)
    found = snapshot.pipeline(pipeline)
    if found is None and strict:
        known = ", ".join(item.pipeline for item in snapshot.pipelines) or "none"
        raise NotFoundError(
            f"there is no pipeline {pipeline!r}",
            expected=f"one that is applied: {known}",
            help="headgate plan && headgate apply",
        )
    return [found] if found else []


def _show(pipelines: list[PipelineSnapshot], at: float) -> None:
    if not pipelines:
        say("no contract is applied; next: headgate plan, then headgate apply")
        return
    print_table(COLUMNS, [_row(item, at) for item in pipelines])


def _row(item: PipelineSnapshot, at: float) -> tuple[object, ...]:
    from monitoring import wording

    return (
        item.pipeline,
        item.state,
        item.desired,
        wording.lag(item),
        wording.rate(item.rows.per_second) if item.rows else wording.NOTHING_MARK,
        wording.count(item.rows.read) if item.rows else wording.NOTHING_MARK,
        wording.quarantined(item),
        wording.age(item.last_commit_at, at),
        wording.count(item.restarts),
        item.verdict or wording.NOTHING_MARK,
        "; ".join(filter(None, (item.reason, *item.conditions))),
    )


def _details(item: PipelineSnapshot, at: float) -> None:
    """What one pipeline's line has no room for."""
    from monitoring import wording

    out.print()
    if item.ordered_by:
        out.print(
            f"ordered by {item.ordered_by}, generation {item.generation}, epoch {item.epoch}", markup=False
        )
    if item.next_attempt_at is not None:
        out.print(f"next attempt {wording.age(item.next_attempt_at, at)}", markup=False)
    if item.lane:
        out.print(f"lane of the records {item.lane}", markup=False)
    if item.ui_url:
        out.print(f"Spark UI {item.ui_url}", markup=False)
    print_table(
        ("query", "batch", "committed", "lag", "error"),
        [
            (
                query.query,
                wording.NOTHING_MARK if query.batch_id is None else query.batch_id,
                wording.age(query.last_commit_at, at),
                wording.count(query.lag_records),
                query.error or "",
            )
            for query in item.queries
        ],
    )
    if item.quality_every is not None and not item.verdicts:
        name = item.pipeline
        out.print(f"no quality check yet: is quality.{name} paused in Airflow? Now: headgate check {name}")
    for verdict in item.verdicts:
        failed = f": {', '.join(verdict.failed)}" if verdict.failed else ""
        out.print(f"{verdict.output} {verdict.status} {wording.age(verdict.at, at)}{failed}", markup=False)


def _broken_rules(item: PipelineSnapshot) -> None:
    """Why records were quarantined or warned of, the most frequent reason first."""
    from monitoring import wording

    if item.rows is None or not item.rows.rules:
        return
    broken = sorted(item.rows.rules.items(), key=lambda each: (-each[1], each[0]))
    print_table(
        ("rule", "records", "which were"),
        [
            (name, wording.count(count), "good, with a warning" if name in item.warn_rules else "quarantined")
            for name, count in broken
        ],
    )
    if item.rows.quarantined:
        out.print(f"the records themselves: headgate quarantine {item.pipeline}", markup=False)


def _replays(settings: Settings, pipeline: str) -> None:
    """Those that run, or wait for what is to become of them."""
    from headgate.replays.model import find_replays
    from headgate.replays.state import state_of
    from headgate.streams.store import StateStore

    replays = find_replays(settings.state, pipeline)
    if not replays:
        return
    try:
        with closing(StateStore(settings.store_url)) as store:
            found = [state_of(settings, store, each) for each in replays]
    except UnavailableError as error:
        out.print(f"{len(replays)} replays, of which nothing is known: {error.message}", markup=False)
        return
    for each in found:
        if each.state not in ("swapped", "discarded"):
            told = f"replay {each.replay.id} {each.state}, {each.share:.0%} read"
            out.print(f"{told}: headgate replay status {each.replay.id}", markup=False)


def _complain(snapshot: PlatformSnapshot) -> None:
    down = snapshot.down()
    if down:
        raise UnavailableError(
            "not everything is known: " + "; ".join(f"{source.name}: {source.error}" for source in down),
            help="headgate doctor looks at each of them; headgate up starts the platform where it is down",
        )
