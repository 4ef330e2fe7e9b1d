"""Turns loaded contracts into frozen ones: asks Spark for schemas, names topics, settles defaults.

Analysis needs a JVM (some 8 seconds), so results are kept under <state>/cache by the contract's content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headgate import __version__
from headgate.arrow.choice import decided_feeds, decided_lane, lane_problems
from headgate.contract.document import Document
from headgate.contract.facts import open_seconds, output_facts
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze, with_lane
from headgate.contract.loader import LoadedContract
from headgate.contract.model import COLUMN, Contract, Output
from headgate.contract.registered import with_registered
from headgate.contract.sql import parse_output
from headgate.errors import ContractError, Problem, ServiceError
from headgate.settings import Settings
from headgate.suggest import did_you_mean
from headgate.topics.schemas import unportable_types

__all__ = ["resolve"]

ANALYSIS = 2  # raised when the analysis learns to see more: what an older one let pass is asked again
ANALYSIS_SECONDS = 600  # it takes some ten seconds; a machine that has to swap takes long, none takes this


def resolve(
    loaded: Sequence[LoadedContract], settings: Settings, tell: Callable[[str], None] = lambda _: None
) -> list[FrozenContract]:
    """Frozen contracts in the given order. Raises ContractError with all problems of all contracts.
    What takes long is told before it begins, for a person who waits."""
    loaded = with_registered(loaded, settings)
    missing = [item for item in loaded if not _cache_file(item.contract, settings).is_file()]
    found: dict[str, Any] = {}
    if missing:
        names = ", ".join(item.contract.pipeline for item in missing)
        tell(f"Spark starts, to analyse what is new or changed: {names}")
        results = _ask_spark([item.contract for item in missing], settings)
        for item, result in zip(missing, results, strict=True):
            found[item.contract.pipeline] = result
            if not result["problems"]:
                file = _cache_file(item.contract, settings)
                file.parent.mkdir(parents=True, exist_ok=True)
                draft = file.with_name(f".{file.name}.{os.getpid()}")  # two plans may write it at once
                draft.write_text(json.dumps(result), encoding="utf-8")
                draft.replace(file)
    problems: list[Problem] = []
    frozen = []
    for item in loaded:
        result = found.get(item.contract.pipeline) or json.loads(
            _cache_file(item.contract, settings).read_text(encoding="utf-8")
        )
        for problem in result["problems"]:
            problems.append(item.document.problem(tuple(problem["at"]), problem["message"]))
        if not result["problems"]:
            outputs, more = _outputs(item.contract, item.document, result["outputs"])
            problems.extend(more)
            if not more:
                frozen.append(_freeze(item.contract, outputs, settings))
                problems.extend(_lane_problems(frozen[-1], item.document))
    if problems:
        raise ContractError(problems)
    return frozen


def _freeze(contract: Contract, outputs: dict[str, ResolvedOutput], settings: Settings) -> FrozenContract:
    topics = {name: f"{settings.prefix}{source.topic}" for name, source in contract.sources.items()}
    frozen = freeze(
        contract,
        topics=topics,
        replication=settings.kafka.replication,
        outputs=outputs,
        env=settings.env,
        headgate_version=__version__,
    )
    local = settings.spark.master.startswith("local")
    return with_lane(frozen, decided_lane(frozen, local=local), decided_feeds(frozen, local=local))


def _outputs(
    contract: Contract, document: Document, analysed: dict[str, Any]
) -> tuple[dict[str, ResolvedOutput], list[Problem]]:
    outputs = {}
    problems: list[Problem] = []
    for name, spec in contract.outputs.items():
        result = analysed[name]
        problems.extend(_output_problems(name, spec, result, document))
        types = {field["name"]: field["type"] for field in result["schema"]["fields"]}
        event_time = spec.event_time or next((c for c in spec.key if types.get(c) == "timestamp"), None)
        window, count = None, None
        if spec.sql is not None:
            query = parse_output(spec.sql, contract.sources)
            if not isinstance(query, list):
                facts = output_facts(query, contract.sources)
                count = facts.count_column
                window = open_seconds(query, event_time, contract.sources) if event_time else None
        outputs[name] = ResolvedOutput(
            stateful=result["stateful"],
            schema=result["schema"],
            event_time=event_time,
            window_seconds=window,
            count_column=count if result["stateful"] else None,
        )
    return outputs, problems


def _lane_problems(frozen: FrozenContract, document: Document) -> list[Problem]:
    """Lanes that are asked for and cannot be had."""
    return [document.problem(found.at, found.message, help=found.help) for found in lane_problems(frozen)]


def _name_problems(name: str, spec: Output, result: dict[str, Any], document: Document) -> list[Problem]:
    """A table's columns have plain names, each once, whatever their case."""
    at = ("outputs", name, "sql" if spec.sql is not None else "python")
    problems = []
    seen: set[str] = set()
    for field in result["schema"]["fields"]:
        column = field["name"]
        if not re.fullmatch(COLUMN, column):
            message = f"the column `{column}` of the output has no plain name"
            problems.append(document.problem(at, message, expected="`… AS name`"))
        elif column.lower() in seen:
            message = f"the output has the column `{column}` twice"
            problems.append(document.problem(at, message, expected="a name of its own for each"))
        seen.add(column.lower())
    return problems


def _output_problems(name: str, spec: Output, result: dict[str, Any], document: Document) -> list[Problem]:
    problems = _name_problems(name, spec, result, document)
    types = {field["name"]: field["type"] for field in result["schema"]["fields"]}
    known = f"one of {', '.join(types)}"
    for i, column in enumerate(spec.key):
        if column not in types:
            at = ("outputs", name, "key", i)
            problems.append(
                document.problem(
                    at,
                    f"the output has no column `{column}`",
                    expected=known,
                    help=did_you_mean(column, types),
                )
            )
        elif not isinstance(types[column], str):
            at = ("outputs", name, "key", i)
            problems.append(
                document.problem(
                    at,
                    f"`{column}` is a {types[column].get('type', 'nested value')} and cannot be a key",
                    expected="a column with a single value",
                    help="write `window.start AS …` in the SQL, or one field of the struct",
                )
            )
    if spec.event_time is not None and types.get(spec.event_time) != "timestamp":
        problems.append(
            document.problem(
                ("outputs", name, "event_time"),
                f"`{spec.event_time}` is not a timestamp of this output",
                expected=f"one of {', '.join(c for c, t in types.items() if t == 'timestamp') or '(none)'}",
            )
        )
    if spec.mode == "update" and not result["stateful"]:
        problems.append(
            document.problem(
                ("outputs", name, "mode"),
                "`mode: update` is for outputs that aggregate; this one passes records on",
                expected="`mode: append`",
            )
        )
    problems.extend(_json_problems(name, spec, types, document))
    for i, target in enumerate(spec.to):
        for column in target.partition_by:
            if column not in types:
                place = ("outputs", name, "to", i, "partition_by")
                problems.append(
                    document.problem(
                        place,
                        f"the output has no column `{column}`",
                        expected=known,
                        help=did_you_mean(column, types),
                    )
                )
    return problems


def _json_problems(name: str, spec: Output, types: dict[str, Any], document: Document) -> list[Problem]:
    """Redis keeps JSON. What also goes to a table is held to the table's types when the plan is made."""
    if any(target.delta for target in spec.to):
        return []
    at = ("outputs", name, "sql" if spec.sql is not None else "python")
    return [
        document.problem(
            at, f"the column `{column}` is of type {kind}, which JSON does not have", help="CAST(… AS STRING)"
        )
        for column, type_ in types.items()
        for kind in unportable_types(type_)
        if kind not in {"timestamp_ntz", "void"}
    ]


def _cache_file(contract: Contract, settings: Settings) -> Path:
    dumped = contract.model_dump(mode="json", exclude_defaults=True)
    for source in dumped["sources"].values():
        # Spark sees the columns alone, and a registry's schema is not known before it was asked for.
        source.pop("schema", None)
    seed = {
        "rules": ANALYSIS,
        "contract": dumped,
        "versions": [__version__, version("pyspark"), version("sqlglot")],
    }
    digest = hashlib.sha256(json.dumps(seed, sort_keys=True).encode()).hexdigest()[:32]
    return settings.state / "cache" / "analysis" / f"{digest}.json"


def _ask_spark(contracts: Sequence[Contract], settings: Settings) -> list[dict[str, Any]]:
    request = {
        "contracts": [contract.model_dump(mode="json", exclude_defaults=True) for contract in contracts]
    }
    log = settings.state / "log" / "analysis.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stderr:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "spark.analyze"],
                input=json.dumps(request),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                check=False,
                timeout=ANALYSIS_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            names = ", ".join(contract.pipeline for contract in contracts)
            raise ServiceError(
                f"Spark did not finish the analysis of {names} within {ANALYSIS_SECONDS} s and was stopped",
                expected="an analysis of some seconds",
                help=f"read {log}; `headgate plan PIPELINE` for each tells which contract it is",
            ) from error
    try:
        results: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])["results"]
    except (ValueError, IndexError, KeyError) as error:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = next(
            (line for line in reversed(lines) if line.strip() and not line.startswith("\t")), "no output"
        )
        raise ServiceError(
            f"Spark could not analyse the contracts (exit {done.returncode}): {last[:300]}",
            help=f"read {log}; `headgate doctor` checks Java and the jars",
        ) from error
    return results
