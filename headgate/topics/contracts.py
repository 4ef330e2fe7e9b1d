"""Contracts: what changed since the applied one, and what of it breaks somebody. Pure.

A reader of an output breaks when a column, an output or an address goes away or means something else;
such a change needs a new `version`, which is the owner's word that the readers know. The state of a
stateful query breaks when its grouping or its aggregates change. Under a new version that is a note with
the road: the stream runs on as it does, and begins a new lineage when somebody orders it to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from headgate.checkpoints.layout import RECORDS
from headgate.contract.changes import changed_keys
from headgate.contract.frozen import FrozenContract
from headgate.contract.kinds import is_aggregate
from headgate.contract.model import Output
from headgate.contract.sql import parse_output, to_sql
from headgate.formats.compat import unreadable_after
from headgate.topics.differences import Action, Note, Refusal
from headgate.topics.schemas import nullable_schema, type_text

__all__ = ["ContractChange", "breaking_changes", "change_of", "compare_contract", "state_changes"]

# Parts of a state's signature that change what a row of the output stands for.
_MEANING = ("grouping", "function")
_MOST_TOLD = 6  # changes of a contract that a plan names

ContractChange = Literal["new", "changed", "unchanged", "removed"]


@dataclass(frozen=True, slots=True)
class StateChange:
    """A query whose checkpoint cannot be carried on, and why."""

    query: str
    why: str
    new_meaning: bool = False  # a row of the output stands for something else


def change_of(contract: FrozenContract, before: FrozenContract | None) -> ContractChange:
    if before is None:
        return "new"
    return "unchanged" if before.hash == contract.hash else "changed"


def compare_contract(
    contract: FrozenContract, before: FrozenContract | None, *, file: str, committed: Collection[str]
) -> tuple[list[Action], list[Refusal], list[Note]]:
    """`committed` names the queries whose checkpoint holds a committed batch."""
    if before is not None and before.hash == contract.hash:
        return [], [], []
    refusals: list[Refusal] = []
    notes: list[Note] = []
    if before is not None:
        refusals += _version_refusals(contract, before)
        stranded = [each for each in state_changes(before, contract) if each.query in committed]
        if contract.contract.version > before.contract.version:
            notes += [_new_lineage(contract.pipeline, each) for each in stranded]
        else:
            refusals += [_state_refusal(contract, each) for each in stranded]
        refusals += _schema_refusals(contract, before, committed)
    if refusals:
        return [], refusals, []
    return [_put(contract, before, file)], [], notes


def _put(contract: FrozenContract, before: FrozenContract | None, file: str) -> Action:
    version = contract.contract.version
    if before is None:
        summary, reason = f"version {version}", f"{file} is new"
    elif before.contract.version == version:
        summary = f"version {version}, {before.hash[:12]} → {contract.hash[:12]}"
        reason = f"{file} changed{_told(changed_keys(before.contract, contract.contract))}"
        if before.contract == contract.contract:
            reason = _lanes_told(before, contract) or reason
    else:
        summary = f"version {before.contract.version} → {version}"
        told = "; ".join(breaking_changes(before, contract))
        reason = f"{file} has a new version" + (f", in which {told}" if told else "")
    return Action(
        kind="put_contract",
        address=f"contract {contract.pipeline}",
        pipeline=contract.pipeline,
        summary=summary,
        reason=reason,
        arguments={"hash": contract.hash, "before": before.hash if before else None, "file": file},
    )


def _lanes_told(before: FrozenContract, contract: FrozenContract) -> str:
    """Which lanes that a contract leaves open have come to be other ones."""
    if before.lane != contract.lane:
        return f"the lane of its records, which it leaves open, is {contract.lane or 'jvm'} now"
    fed = {name: lane for name, lane in contract.fed.items() if before.fed.get(name, "jvm") != lane}
    told = ", ".join(f"{lane} for {name}" for name, lane in sorted(fed.items()))
    return f"the lane in which records are read, which it leaves open, is {told} now" if told else ""


def _told(changes: Sequence[str]) -> str:
    more = f"; and {len(changes) - _MOST_TOLD} more" if len(changes) > _MOST_TOLD else ""
    return f": {'; '.join(changes[:_MOST_TOLD])}{more}" if changes else ""


def _version_refusals(contract: FrozenContract, before: FrozenContract) -> Iterable[Refusal]:
    new, old = contract.contract.version, before.contract.version
    address = f"contract {contract.pipeline}"
    if new < old:
        yield Refusal(
            "version_lowered",
            address,
            contract.pipeline,
            f"version {new} is older than the applied version {old}",
            f"write version: {old} or a greater one",
        )
    elif new == old and (breaking := breaking_changes(before, contract)):
        yield Refusal(
            "version_needed",
            address,
            contract.pipeline,
            f"this breaks readers of version {old}: {'; '.join(breaking)}",
            f"undo it, or tell the readers and write version: {old + 1}",
        )


def _state_refusal(contract: FrozenContract, change: StateChange) -> Refusal:
    name, version = contract.pipeline, contract.contract.version
    return Refusal(
        "state_does_not_fit",
        f"checkpoint {name}/{change.query}",
        name,
        f"{change.why}, and what the query has committed cannot be carried on from",
        "undo it; or give the output another name and table: it then starts with a checkpoint of its own; or "
        f"write version: {version + 1} and apply, then begin a new lineage: headgate restart {name} "
        "--from earliest --dry-run says what that repeats",
    )


def _new_lineage(pipeline: str, change: StateChange) -> Note:
    return Note(
        "state_does_not_fit",
        f"checkpoint {pipeline}/{change.query}",
        pipeline,
        f"{change.why}, and what the query has committed cannot be carried on from. The stream runs on with "
        "the contract that it has until it is ordered. Preflight refuses a plain restart: the stream is then "
        f"taken back to that contract, or parks. headgate restart {pipeline} --from earliest begins a new "
        "lineage (or --from latest, timestamp, offsets); with --dry-run it only says what is read again and "
        "what is skipped. Rows that are in the tables stay beside the new ones",
    )


def _schema_refusals(
    contract: FrozenContract, before: FrozenContract, committed: Collection[str]
) -> Iterable[Refusal]:
    """Records of a topic that was read, and that the new schema could not read, or would read wrongly."""
    for name, source in contract.contract.sources.items():
        old = before.contract.sources.get(name)
        if old is None or not committed or contract.topics[name] != before.topics[name]:
            continue
        why = unreadable_after(old, source)
        if why is not None:
            yield Refusal(
                "schema_does_not_resolve",
                f"source {contract.pipeline}/{name}",
                contract.pipeline,
                why,
                "undo it; or give a new field a default and a renamed one its old name in `aliases`; or read "
                "another topic",
            )


def breaking_changes(old: FrozenContract, new: FrozenContract) -> list[str]:
    """What a reader of the old outputs would stumble over, one phrase each."""
    found = [f"source {name} is gone" for name in old.topics if name not in new.topics]
    for name, before in old.contract.outputs.items():
        after = new.contract.outputs.get(name)
        if after is None:
            found.append(f"output {name} is gone")
            continue
        found += _broken_columns(name, old, new)
        if before.mode != after.mode or before.key != after.key:
            found.append(f"output {name} has other keys: {_key(before)} became {_key(after)}")
        found += [f"output {name} leaves {address}" for address in _addresses(before) - _addresses(after)]
    return found + [change.why for change in state_changes(old, new) if change.new_meaning]


def _broken_columns(name: str, old: FrozenContract, new: FrozenContract) -> Iterable[str]:
    before = _types(old, name)
    after = _types(new, name)
    for column, kind in before.items():
        if column not in after:
            yield f"column {column} of output {name} is gone"
        elif after[column] != kind:
            yield f"column {column} of output {name} becomes {after[column]} from {kind}"


def _types(contract: FrozenContract, output: str) -> dict[str, str]:
    fields = nullable_schema(contract.outputs[output].schema)["fields"]
    return {each["name"]: type_text(each["type"]) for each in fields}


def _key(output: Output) -> str:
    return f"{output.mode} on ({', '.join(output.key)})" if output.key else output.mode


def _addresses(output: Output) -> set[str]:
    tables = {f"table {target.delta}" for target in output.to if target.delta}
    return tables | {f"Redis key {target.redis}" for target in output.to if target.redis}


def state_changes(old: FrozenContract, new: FrozenContract) -> list[StateChange]:
    """Queries that exist on both sides and whose checkpoint the new contract cannot carry on."""
    changes = [
        StateChange(query, f"source {name} reads topic {new.topics[name]} instead of {topic}")
        for name, topic in old.topics.items()
        if name in new.topics and new.topics[name] != topic
        for query in [RECORDS, *(q for q in new.stateful_outputs if q in old.stateful_outputs)]
    ]
    for name in new.outputs:
        if name in old.outputs and old.outputs[name].stateful and new.outputs[name].stateful:
            before, after = _state_signature(old, name), _state_signature(new, name)
            changes += [
                StateChange(name, f"output {name} has another {part}", part in _MEANING)
                for part in before
                if before[part] != after[part]
            ]
    return changes


def _state_signature(contract: FrozenContract, name: str) -> Mapping[str, object]:
    """What Spark's state rows are made from: grouping, aggregates, sources, and their columns' types."""
    output = contract.contract.outputs[name]
    sources = contract.contract.sources
    if output.sql is None:
        return {"function": output.python}
    query = parse_output(output.sql, sources)
    if isinstance(query, list):  # what was applied was checked; a newer parser may be stricter
        return {"SQL": output.sql}
    used = {column.name.lower() for column in query.find_all(exp.Column)}
    tables = sorted({table.name for table in query.find_all(exp.Table)} & set(sources))
    groups = query.find_all(exp.Group, bfs=False)
    return {
        # In the order of the text: the state's rows hold keys and buffers by position.
        "grouping": [_text(each) for group in groups for each in group.expressions],
        "list of aggregates": list(dict.fromkeys(map(_text, _aggregates(query)))),
        "join or source": (tables, [_text(join) for join in query.find_all(exp.Join, bfs=False)]),
        "DISTINCT": query.find(exp.Distinct) is not None,
        "type of a column it reads": {
            f"{table}.{column.name}": column.type
            for table in tables
            for column in sources[table].columns
            if column.name.lower() in used
        },
    }


def _aggregates(query: exp.Select) -> Iterable[exp.Expr]:
    return (node for node in query.walk(bfs=False) if is_aggregate(node))


def _text(node: exp.Expr) -> str:
    return to_sql(node)  # not lowered: literals have a case, and they are part of what is counted
