"""One tortured run from start to proof: copy, feed, faults, drain, compare."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka import TopicPartition

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import committed_offsets
from headgate.errors import UsageError
from headgate.failpoints import BOUNDARIES
from headgate.settings import Settings
from headgate.streams.model import Phase
from headgate.streams.spares import NO_ROOM
from headgate.topics.kafka import admin_client
from headgate.topics.lag import offset_range
from headgate.topics.pipelines import load_pipelines
from headgate.torture.faults import TortureError, carry_out, wait
from headgate.torture.feeder import Feed, Feeder
from headgate.torture.outcome import Outcome, slowest
from headgate.torture.place import OWNER, Place, open_place
from headgate.torture.plan import has_reserve, make_plan
from headgate.torture.proof import Proof, Sizes, prove
from headgate.torture.records import SourceRecords, in_its_format, refuse_unmakeable

__all__ = ["Report", "Request", "boundaries_of", "drained", "feeds_of", "torture"]

# What was sent while the stream was down is read now, on a machine that may have other things to do.
DRAIN_SECONDS = 900.0
RESERVE_SECONDS = 120.0  # a driver is warm long before, but for a machine that has other things to do
_CHUNKS = 100  # of the records asked for: small, so that what one chunk advances event time is small


@dataclass(frozen=True, slots=True)
class Request:
    pipeline: str
    seed: int
    kills: int
    records: int
    from_file: Path | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What happened and what holds. `folder` is the private copy, None when it was removed."""

    pipeline: str
    seed: int
    sent: int
    sizes: Sizes
    faults: tuple[Outcome, ...]
    proofs: tuple[Proof, ...]
    seconds: float
    folder: Path | None

    @property
    def holds(self) -> bool:
        return all(proof.holds for proof in self.proofs)

    @property
    def slowest(self) -> dict[str, float | None]:
        return slowest(self.faults)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds, "slowest": self.slowest}


def torture(settings: Settings, request: Request, say: Callable[[str], None]) -> Report:
    """Torture a private copy of a pipeline. Raises RefusedError for one that cannot be, TortureError when
    the stream does not go on; the copy is kept then."""
    (loaded,) = load_pipelines(settings, [request.pipeline])
    if request.from_file is None:
        refuse_unmakeable(loaded.contract)
    name = f"torture-{request.pipeline}-{request.seed}-{os.getpid()}"
    begun = time.monotonic()
    kept = settings.state / name
    say(f"seed {request.seed}: a private copy of {request.pipeline} in {kept}")
    with open_place(settings, loaded, name, reserve=has_reserve(request.seed)) as own:
        feeds = feeds_of(own, request)
        try:
            outcomes, sent = _run(own, feeds, request, say)
        except TortureError as error:
            error.help = f"seed {request.seed}; the private copy is kept: {kept}"
            raise
        say("computing what should be there")
        sizes, proofs = prove(own, feeds)
    report = Report(
        request.pipeline,
        request.seed,
        sent,
        sizes,
        tuple(outcomes),
        tuple(proofs),
        time.monotonic() - begun,
        kept,
    )
    if not report.holds or request.keep:
        return report
    shutil.rmtree(kept)
    return replace(report, folder=None)


def boundaries_of(own: Place) -> list[str]:
    """The failpoints that this pipeline's batches reach."""
    frozen = own.frozen
    found = []
    for name in BOUNDARIES:
        query, _, place = name.partition(".")
        outputs = frozen.record_outputs if query == "records" else frozen.stateful_outputs
        targets = [target for output in outputs for target in frozen.contract.outputs[output].to]
        if query == "stateful" and not outputs:
            continue
        if place.endswith("delta") and not any(target.delta for target in targets):
            continue
        if place.endswith("redis") and query == "records" and not any(target.redis for target in targets):
            continue
        found.append(name)
    return found


def _run(
    own: Place, feeds: Sequence[Feed], request: Request, say: Callable[[str], None]
) -> tuple[list[Outcome], int]:
    feeder = Feeder(own.settings, feeds)
    try:
        with own.client() as client:
            client.ensure(
                own.stream,
                pipeline=own.stream,
                contract_hash=own.frozen.hash,
                owner=OWNER,
                idempotency_key=f"torture-{request.seed}",
            )
        wait(lambda: _running(own), lambda: f"the driver runs; its log is {own.log}")
        feeder.start()
        wait(lambda: own.committed() >= 0, lambda: f"a first batch; the driver's log is {own.log}")
        outcomes = _faults(own, request, say)
        feeder.finish()
        wait(
            lambda: drained(own),
            lambda: f"everything is committed; the driver's log is {own.log}",
            DRAIN_SECONDS,
        )
        with own.client() as client:
            client.stop(own.stream, actor="cli:torture", reason="the run is over")
        wait(lambda: own.status().phase is Phase.STOPPED, lambda: "the stream stops")
    finally:
        feeder.abort()
    return outcomes, feeder.sent


def _faults(own: Place, request: Request, say: Callable[[str], None]) -> list[Outcome]:
    begun = time.monotonic()
    outcomes = []
    for fault in make_plan(request.seed, request.kills, boundaries_of(own)):
        time.sleep(fault.after)
        lacking = _lacking_reserve(own) if own.reserve else ""
        say(f"{fault.number}/{request.kills}: {fault.text}")
        outcomes.append(carry_out(own, fault, begun).noting(lacking))
    return outcomes


def _lacking_reserve(own: Place) -> str:
    """Wait until a driver is warm. Without memory for one, or where none is in time, the fault comes without:
    the answer says why."""
    end = time.monotonic() + RESERVE_SECONDS
    while (state := own.reserve_state()) != "ready":
        if NO_ROOM in state or time.monotonic() > end:
            return f"no driver in reserve, which is {state}"
        time.sleep(0.2)
    return ""


def _running(own: Place) -> bool:
    status = own.status()
    if status.phase is Phase.PARKED:
        raise TortureError(f"the stream parked before any fault: {status.reason}", help=f"read {own.log}")
    return status.phase is Phase.RUNNING


def drained(own: Place) -> bool:
    """Every query has committed all that the topics hold."""
    if own.status().phase is Phase.PARKED:
        raise TortureError(f"the stream parked: {own.status().reason}", help=f"read {own.log}")
    sources = own.frozen.contract.sources
    keys = [
        TopicPartition(topic, number)
        for name, topic in own.frozen.topics.items()
        for number in range(sources[name].partitions)
    ]
    with admin_client(own.settings) as admin:
        _, ends = offset_range(admin, keys)
    return all(_has_read(own, query, ends) for query in (RECORDS, *own.frozen.stateful_outputs))


def _has_read(own: Place, query: str, ends: dict[TopicPartition, int]) -> bool:
    folder = own.query(query)
    committed = committed_offsets(folder) if folder is not None else None
    if committed is None:
        return False
    read = committed.offsets
    # A stateful query reads the sources that its output names; the record query reads all.
    return all(
        read.get(key.topic, {}).get(key.partition, 0) >= end
        for key, end in ends.items()
        if query == RECORDS or key.topic in read
    )


def feeds_of(own: Place, request: Request) -> list[Feed]:
    """What is sent to each topic: made from the contract, or the lines of a file."""
    sources = own.frozen.contract.sources
    if request.from_file is not None:
        return [_feed_of_file(own, request, request.from_file)]
    share = max(request.records // len(sources), _CHUNKS)
    now = datetime.now(UTC)
    return [
        Feed(
            own.frozen.topics[name],
            source.partitions,
            in_its_format(source, SourceRecords(source, _seed(request, name), share, now).make),
            total=share,
            endless=True,
            chunk=share // _CHUNKS,
        )
        for name, source in sources.items()
    ]


def _feed_of_file(own: Place, request: Request, file: Path) -> Feed:
    sources = own.frozen.contract.sources
    if len(sources) > 1:
        raise UsageError(
            f"{own.stream} has {len(sources)} sources, and a file feeds one",
            help="leave --from-file away: records are made from the contract",
        )
    lines = file.read_bytes().splitlines()
    if not lines:
        raise UsageError(f"{file} holds no line")
    ((name, source),) = sources.items()
    chunk = max(len(lines) // (100 + 50 * request.kills), 1)
    make = in_its_format(source, lines.__getitem__)
    return Feed(own.frozen.topics[name], source.partitions, make, len(lines), False, chunk)


def _seed(request: Request, source: str) -> str:
    return hashlib.sha256(f"{request.seed}/{request.pipeline}/{source}".encode()).hexdigest()
