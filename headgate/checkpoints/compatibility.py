"""A contract against the checkpoint that an earlier one wrote: what may stay, what Spark would ignore,
and what needs a new lineage. Pure.

    rules, a new output, trigger, cores, memory, quality      may stay: in force from the next batch on
    where a source starts; confs that the offset log pins      ignored until a new lineage: a warning
    watermark delay                                            in force, but the watermark never goes back
    the form in which the event time is written                in force, beside what was read by the old one
    grouping, window, aggregates, DISTINCT, joins, types of
    what is read, key, mode, event-time column and its zone,
    topic                                                      refused: the state means something else

Spark itself would refuse only those that change the type of a state's row, and only when it reads one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from headgate.checkpoints.layout import RECORDS
from headgate.contract.facts import event_time_name
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Column, Source, seconds
from headgate.contract.sql import parse_output
from headgate.topics.contracts import state_changes

__all__ = ["Difference", "conf_differences", "contract_differences", "kept", "unfit_changes"]

Severity = Literal["warn", "refuse"]
# Cannot be switched over under a checkpoint: the offset log has another format.
_FIXED = frozenset({"spark.sql.streaming.queryEvolution.enableSourceEvolution"})
# What a contract may set and then take back; what Spark takes then is its own default.
_DEFAULTS = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider"
    ),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that does not carry over as it is written."""

    code: str
    severity: Severity
    why: str


def contract_differences(old: FrozenContract, new: FrozenContract, query: str) -> list[Difference]:
    """The contract that last ran on this query's checkpoint against the one that shall."""
    if old.hash == new.hash:
        return []
    found = [_refused(each.why) for each in state_changes(old, new) if each.query == query]
    if query != RECORDS:
        if query not in old.stateful_outputs or query not in new.stateful_outputs:
            return []
        found += map(_refused, _output_changes(old, new, query))
    for name in _sources_of(new, query):
        before = old.contract.sources.get(name)
        if before is not None:
            found += _source_changes(name, before, new.contract.sources[name], stateful=query != RECORDS)
    return found


def unfit_changes(old: FrozenContract, new: FrozenContract) -> list[str]:
    """Why the state of one contract is none for the other; nothing when it fits."""
    return [
        f"query {query}: {each.why}"
        for query in (RECORDS, *new.stateful_outputs)
        for each in contract_differences(old, new, query)
        if each.severity == "refuse"
    ]


def conf_differences(pinned: Mapping[str, str], wanted: Mapping[str, str]) -> list[Difference]:
    """The confs in the offset log against those that a session of the contract would have."""
    found = []
    for name, value in sorted(pinned.items()):
        asked = wanted.get(name, _DEFAULTS.get(name))
        if asked is None or asked == value:
            continue
        if name in _FIXED:
            text = f"{name} is {value} in this checkpoint and would be {asked}: Spark cannot read it so"
            found.append(Difference("conf_does_not_fit", "refuse", text))
        else:
            text = f"{name} stays {value}; {asked} is ignored until a new lineage begins"
            found.append(Difference("conf_ignored", "warn", text))
    return found


def kept(old: FrozenContract, new: FrozenContract) -> list[str]:
    """What changed and is simply in force from the next batch on, for people."""
    before, after = old.contract, new.contract
    found = [f"new output {name}" for name in after.outputs if name not in before.outputs]
    found += [
        f"rules of source {name}"
        for name, source in after.sources.items()
        if name in before.sources and before.sources[name].rules != source.rules
    ]
    found += [
        f"job.{name}"
        for name in type(after.job).model_fields
        if name not in ("spark", "shuffle_partitions")
        and getattr(before.job, name) != getattr(after.job, name)
    ]
    return found


def _refused(why: str) -> Difference:
    return Difference("state_does_not_fit", "refuse", why)


def _output_changes(old: FrozenContract, new: FrozenContract, name: str) -> Iterable[str]:
    before, after = old.contract.outputs[name], new.contract.outputs[name]
    if before.mode != after.mode:
        yield f"output {name} has mode {after.mode} instead of {before.mode}"
    if before.key != after.key:
        yield f"output {name} has the key ({', '.join(after.key)}) instead of ({', '.join(before.key)})"


def _sources_of(contract: FrozenContract, query: str) -> Iterable[str]:
    """The record query reads all sources, an output those that its SQL names."""
    sources = contract.contract.sources
    output = contract.contract.outputs.get(query)
    if query == RECORDS or output is None or output.sql is None:
        return sources
    parsed = parse_output(output.sql, sources)
    if isinstance(parsed, list):
        return sources
    named = {table.name for table in parsed.find_all(exp.Table)}
    return [name for name in sources if name in named]


def _source_changes(name: str, old: Source, new: Source, *, stateful: bool) -> Iterable[Difference]:
    if old.start != new.start:
        text = f"source {name}: start is for a new checkpoint only; this one goes on from its offsets"
        yield Difference("start_ignored", "warn", text)
    if not stateful:
        return
    now, then = _clock(new), _clock(old)
    if old.event_time is None or new.event_time is None or now != then:
        if now != then:
            yield _refused(f"source {name} has its event time in {now} instead of {then}")
        return
    if old.event_time.watermark != new.event_time.watermark:
        yield _delay(name, old.event_time.watermark, new.event_time.watermark)
    if _form(old) != _form(new):
        text = (
            f"source {name}: its event time is read from another form; what was read before stays as it was"
        )
        yield Difference("event_time_form", "warn", text)


def _clock(source: Source) -> str:
    """A zone moves each moment, and the watermark with it: what is open would be closed, or never be."""
    if source.event_time is None:
        return "no column"
    if source.event_time.arrival:
        return "the arrival"
    column = _time_column(source)
    zone = (column.zone or "UTC") if column is not None else "UTC"
    return f"column {source.event_time.column}" + (f" of the zone {zone}" if zone != "UTC" else "")


def _form(source: Source) -> tuple[object, ...]:
    """How the event time is written: producers may change that, and the contract follows them."""
    column = _time_column(source)
    said = (column.format, column.default_year) if column is not None else ()
    return (source.format, source.pattern, *said) if column is not None else ()


def _time_column(source: Source) -> Column | None:
    name = event_time_name(source)
    return next((each for each in source.columns if each.name == name), None)


def _delay(name: str, old: str, new: str) -> Difference:
    text = f"source {name}: the watermark follows {new} behind instead of {old}"
    if seconds(new) > seconds(old):
        text += "; it never goes back, so records are late by the old measure until event time has caught up"
    else:
        text += "; groups that are open close sooner"
    return Difference("watermark_changed", "warn", text)
