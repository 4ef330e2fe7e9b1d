"""`headgate produce`, `headgate tail`, `headgate serve`."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import print_json, reader_gone, say, write
from headgate.errors import HeadgateError, UnavailableError, UsageError
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from producers.order import Request, Target
    from producers.run import Order, Stop, Summary

__all__ = ["register"]

INTERRUPTED = 130
TAIL_FIRST = 10  # rows that were there before, as `tail` shows them
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("produce")(_produce)
    app.command("tail")(_tail)
    app.command("serve")(_serve)


def _produce(  # noqa: PLR0917 - each is an option
    pipeline: str,
    source: Annotated[str | None, typer.Option(help="Which source, where there are several.")] = None,
    rate: Annotated[float | None, typer.Option(help="Records a second; made-up ones: 1.")] = None,
    count: Annotated[int | None, typer.Option(help="Stop after so many records.")] = None,
    from_file: Annotated[Path | None, typer.Option(help="Send a log, CSV or JSON-lines file.")] = None,
    shift_to_now: Annotated[
        bool, typer.Option("--shift-to-now", help="Move the file's times: its last one is now.")
    ] = False,
    late_ok: Annotated[
        bool, typer.Option("--late-ok", help="Send a file also when it lies behind the stream.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column that is the key. Without it a file has its name: one partition, in order.",
        ),
    ] = None,
    metrics_port: Annotated[int, typer.Option(help="Loopback port of /metrics; 0: a free one.")] = 0,
    flush_spool: Annotated[
        bool, typer.Option("--flush-spool", help="Only send what waits in the spool.")
    ] = False,
    spool_limit: Annotated[
        int, typer.Option(metavar="MB", min=1, help="Disk space while Kafka is away.")
    ] = 1024,
    wait: Annotated[float, typer.Option(min=0, help="Seconds for the last records to be delivered.")] = 30,
    json_: AsJson = False,
) -> int:
    """Send records into a pipeline's topic: made up, or from a file.

    Without --from-file and --count it runs until it is stopped. Records that cannot be delivered wait
    on disk and are sent first the next time. Exit codes: 0 all delivered, 3 the file would be dropped
    as late, 4 no such pipeline or topic, 69 what is not delivered waits in the spool, or is lost and
    said to be, where Kafka is away and the disk full, 130 interrupted.
    """
    from producers.order import Request

    if flush_spool and (from_file is not None or count is not None):
        raise UsageError("--flush-spool sends what is in the spool and nothing else")
    if math.isnan(wait):
        raise UsageError(f"--wait {wait}", expected="a number of seconds")
    settings = load_settings()[0]
    request = Request(from_file, rate, 0 if flush_spool else count, key, shift_to_now, late_ok)
    return _run(settings, pipeline, source, request, _Options(metrics_port, spool_limit, wait, json_))


@dataclass(frozen=True, slots=True)
class _Options:
    metrics_port: int
    spool_megabytes: int
    flush_seconds: float
    json: bool


def _run(settings: Settings, pipeline: str, source: str | None, request: Request, options: _Options) -> int:
    from producers.order import make_order, target_of
    from producers.run import Stop

    if not os.environ.get("HEADGATE_DEBUG"):
        # What the client meets is told once, in our words, by the producer itself.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
    target = target_of(settings, pipeline, source, say)
    order = make_order(settings, target, request, say, _reading)
    stop = Stop()
    summary = _deliver(settings, target, order, stop, options)
    if options.json:
        named = {"pipeline": pipeline, "source": target.source_name, "topic": target.topic}
        print_json({**named, **summary.to_json()})
    else:
        say(summary.text())
    return _end(order, summary)


def _deliver(settings: Settings, target: Target, order: Order, stop: Stop, options: _Options) -> Summary:
    from producers.core import Producer
    from producers.metrics import ProducerMetrics
    from producers.run import deliver, noted
    from producers.session import Session, connect
    from producers.spool import Spool

    metrics = ProducerMetrics(target.pipeline)
    port, _ = metrics.serve(options.metrics_port)
    folder = settings.state / "spool" / target.pipeline / target.source_name

    def connected() -> Session:
        return connect(
            settings,
            target.topic,
            pipeline=target.pipeline,
            max_request_size=target.max_message_bytes,
            observe=metrics.observe,
        )

    spool = Spool(folder, limit_bytes=options.spool_megabytes * 1024 * 1024, report=say)
    if spool.records:
        say(f"{spool.records} records wait in the spool from before; they go first")
    with (
        noted(settings.state, target.pipeline, target.source_name, port, say),
        Producer(connected, spool, metrics, say=say, stopped=stop) as producer,
    ):
        if order.endless and order.rate is not None:
            say(f"{order.rate:g} records a second into {target.topic}; Ctrl-C ends it")
        return deliver(order, producer, stop, say, flush_seconds=options.flush_seconds)


def _end(order: Order, summary: Summary) -> int:
    from producers.run import shortfall

    counts = summary.counts
    missing = shortfall(order, summary)
    if missing is not None:
        raise missing
    if summary.stopped:
        return 0 if order.endless else INTERRUPTED
    if counts.spooled:
        raise UnavailableError(
            f"{counts.spooled} of {counts.found + counts.sent} records are not delivered yet; "
            "all of them are in the spool, nothing is lost",
            expected="Kafka to answer",
            help=f"headgate produce {order.pipeline} --flush-spool",
        )
    left_out = order.left_out() if order.left_out else []
    if left_out or counts.refused:
        lines = ", ".join(map(str, left_out[:5]))
        raise HeadgateError(
            f"{len(left_out) + counts.refused} records are larger than the topic takes and were not sent"
            + (f": line {lines}{' …' if len(left_out) > 5 else ''} of the file" if left_out else ""),
            help="set max.message.bytes in the source's config, then headgate plan && headgate apply",
        )
    return 0


def _reading(records: int, fraction: float) -> None:
    """A big file is read once before it is sent: say so now and then."""
    if records % 1_000_000 == 0:
        say(f"looking at the file's times: {records} records, {fraction:.0%}")


def _tail(
    pipeline: str,
    output: Annotated[str | None, typer.Option(help="Which output, where there are several.")] = None,
    rows: Annotated[int | None, typer.Option("-n", "--rows", min=1, help="End after so many rows.")] = None,
    json_: AsJson = False,
) -> int:
    """Show an output's rows live, as they are published; Ctrl-C ends it."""
    from headgate.contract.frozen import ContractStore
    from serving.tail import tail, tailed_output

    settings = load_settings()[0]
    tailed = tailed_output(settings, ContractStore(settings.state).current(pipeline), output)
    shown = 0
    try:
        for line in tail(settings, tailed, last=min(rows or TAIL_FIRST, TAIL_FIRST), say=say):
            if line.omitted:
                say(f"… {line.omitted} more rows")
            write((line.to_json() if json_ else line.text()) + "\n")
            shown += 1
            if shown == rows or reader_gone():
                break
    except KeyboardInterrupt:
        return 0
    return 0


def _serve() -> int:
    """Answer GET /api/<pipeline> with the newest results, as JSON, until it is stopped."""
    from serving.server import serve

    serve(load_settings()[0], say)
    return 0
