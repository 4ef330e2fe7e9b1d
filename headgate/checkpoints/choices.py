"""What it means to begin somewhere else: which records are read again, which never, and what that does to
each output. A pure function of what was looked up; it is told before anything is done, and it is all that
a person decides on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headgate.checkpoints.origin import Offsets, Origin
from headgate.checkpoints.sinks import Sink

__all__ = ["Effect", "OriginPlan", "Place", "Span", "begin_at", "go_back"]


@dataclass(frozen=True, slots=True)
class Place:
    """How far a query has come in one partition. `committed` is what it reads next, None before that."""

    query: str
    topic: str
    partition: int
    low: int
    end: int
    committed: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """One partition of one query: where it will begin, and the ranges [first, last) that follow."""

    query: str
    topic: str
    partition: int
    committed: int | None
    begin: int
    low: int
    end: int
    again: tuple[int, int] | None = None
    skipped: tuple[int, int] | None = None

    @property
    def repeats(self) -> int:
        return self.again[1] - self.again[0] if self.again else 0

    @property
    def loses(self) -> int:
        return self.skipped[1] - self.skipped[0] if self.skipped else 0


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of one table."""

    table: str
    text: str
    doubles: bool = False


@dataclass(frozen=True, slots=True)
class OriginPlan:
    """`origin` is what would be ordered; with `problems` it must not be."""

    pipeline: str
    origin: Origin
    new_lineage: bool
    spans: tuple[Span, ...]
    effects: tuple[Effect, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def repeats(self) -> int:
        return sum(span.repeats for span in self.spans)

    @property
    def loses(self) -> int:
        return sum(span.loses for span in self.spans)

    @property
    def destructive(self) -> bool:
        """Whether a person must have agreed: everything but going on at the checkpoint."""
        return self.new_lineage or self.repeats > 0 or self.loses > 0

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["origin"] = self.origin.to_json()
        data["spans"] = [
            {**asdict(span), "repeats": span.repeats, "loses": span.loses} for span in self.spans
        ]
        return {**data, "repeats": self.repeats, "loses": self.loses, "destructive": self.destructive}


@dataclass(slots=True)
class _Draft:
    spans: list[Span] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def begin_at(
    pipeline: str,
    origin: Origin,
    places: Sequence[Place],
    sinks: Iterable[Sink],
    written: frozenset[str] = frozenset(),
) -> OriginPlan:
    """A new lineage at the offsets of an origin. `places` holds every partition of every query, `written`
    the tables that hold what an earlier checkpoint has committed."""
    draft = _Draft()
    for place in places:
        begin = origin.offsets.get(place.topic, {}).get(place.partition)
        if begin is None:
            draft.problems.append(f"{_where(place)}: no offset is given for it")
        else:
            draft.problems += _problems(place, begin)
            draft.spans.append(_span(place, begin))
    draft.problems += _unknown(origin.offsets, places)
    spans = tuple(draft.spans)
    effects = tuple(_effect(sink, spans, sink.table in written) for sink in sinks)
    notes = _notes(origin, spans, effects)
    return OriginPlan(pipeline, origin, True, spans, effects, notes, tuple(dict.fromkeys(draft.problems)))


def go_back(
    pipeline: str,
    origin: Origin,
    places: Sequence[Place],
    offsets: Mapping[str, Offsets],
    effects: Sequence[Effect],
    *,
    problems: Sequence[str] = (),
) -> OriginPlan:
    """A restore: each query goes back to its own offsets (`offsets` by query) of a snapshot."""
    draft = _Draft(problems=list(problems))
    for place in places:
        if place.query not in offsets:
            continue
        # A partition that is younger than the snapshot is read from its first record, as ever.
        begin = offsets[place.query].get(place.topic, {}).get(place.partition, place.low)
        draft.problems += _problems(place, begin)
        draft.spans.append(_span(place, begin))
    new_lineage = origin.way == "new lineage"
    return OriginPlan(
        pipeline,
        origin,
        new_lineage,
        tuple(draft.spans),
        tuple(effects),
        (),
        tuple(dict.fromkeys(draft.problems)),
    )


def _span(place: Place, begin: int) -> Span:
    known = place.committed
    position = place.low if known is None else known
    again = (begin, position) if known is not None and begin < position else None
    skipped = (position, begin) if begin > position else None
    return Span(place.query, place.topic, place.partition, known, begin, place.low, place.end, again, skipped)


def _problems(place: Place, begin: int) -> Iterable[str]:
    if begin < place.low:
        yield (
            f"{_where(place)}: offset {begin} is gone, retention took {begin} to {place.low - 1}; "
            f"the first record that is there has offset {place.low}"
        )
    if begin > place.end:
        yield f"{_where(place)}: offset {begin} is not there yet, the topic ends at {place.end}"


def _unknown(offsets: Offsets, places: Sequence[Place]) -> Iterable[str]:
    known = {(place.topic, place.partition) for place in places}
    for topic, partitions in sorted(offsets.items()):
        for number in sorted(partitions):
            if (topic, number) not in known:
                yield f"topic {topic}, partition {number}: the pipeline reads no such partition"


def _effect(sink: Sink, spans: Sequence[Span], written: bool) -> Effect:
    own = [span for span in spans if span.query == sink.query]
    repeats, loses = sum(span.repeats for span in own), sum(span.loses for span in own)
    missing = f"; what the {loses} skipped records would have given is missing" if loses else ""
    if sink.keyed:
        text = (
            "rows are upserted by their key: those of records that are read again get the same values, but "
            "for records that came too late before, which count now, and for those that retention has taken, "
            "which are missing"
        )
        if any(span.begin > span.low for span in own):
            text += (
                "; a group that began before the start is counted from the start on only, and overwritten so"
            )
        return Effect(sink.table, text + missing)
    if written and any(span.committed is None for span in own):
        what = (
            "it holds what an earlier checkpoint committed, and where that had come to is not known: what "
            "it gave of records that are read again is there twice"
        )
        return Effect(sink.table, what, doubles=True)
    if repeats:
        what = f"{repeats} records are read again under new batch ids: what they gave is there twice"
        return Effect(sink.table, what + missing, doubles=True)
    return Effect(sink.table, missing.removeprefix("; ") or "goes on after what it holds")


def _notes(origin: Origin, spans: Sequence[Span], effects: Sequence[Effect]) -> tuple[str, ...]:
    found = ["a new lineage begins: batch ids, books and state begin anew; the old checkpoint is kept"]
    behind = sum(span.end - span.begin for span in spans if span.query == spans[0].query) if spans else 0
    found.append(f"{behind} records are read until the topic's present end")
    if any(effect.doubles for effect in effects):
        found.append(
            "to have nothing twice, restore a snapshot instead: headgate snapshot list; or empty those "
            "tables before the stream starts"
        )
    if origin.kind in ("latest", "timestamp") and any(span.loses for span in spans):
        found.append("the skipped records stay in the topic for as long as its retention says")
    return tuple(found)


def _where(place: Place) -> str:
    return f"topic {place.topic}, partition {place.partition}"
