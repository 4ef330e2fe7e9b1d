"""Applied contracts, immutable under their hash; every process runs from these, never from the YAML.

<state>/contracts/<hash>.json             the resolved contract, written once
<state>/contracts/applied/<pipeline>.json which hash is applied, by whom, when: what DAG files read
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from headgate.contract.model import Contract, seconds
from headgate.errors import NotFoundError

_log = logging.getLogger("headgate.contract")

__all__ = ["Applied", "ContractStore", "FrozenContract", "ResolvedOutput", "freeze", "with_lane"]

Lane = Literal["arrow", "jvm"]


@dataclass(frozen=True, slots=True)
class ResolvedOutput:
    """What analysis found out about an output.

    `schema` is Spark's JSON form of a StructType. `window_seconds` is how long one event time stays
    open (0 when the event time is a point), None when the output has no event time or its SQL does not
    tell. `count_column` holds a count(*) of the records behind a row, for `audit`.
    """

    stateful: bool
    schema: Mapping[str, Any]
    event_time: str | None = None
    window_seconds: float | None = None
    count_column: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """Column name to Spark's JSON type."""
        return {field["name"]: field["type"] for field in self.schema["fields"]}


@dataclass(frozen=True, slots=True)
class FrozenContract:
    """A contract with everything that was resolved when it was applied."""

    hash: str
    contract: Contract
    topics: Mapping[str, str]  # source name to the topic's name in this environment
    replication: int
    outputs: Mapping[str, ResolvedOutput]
    env: str
    headgate_version: str
    lane: Lane | None = None  # what a lane that is left open came to
    fed: Mapping[str, Lane] = field(default_factory=dict)  # the same of stateful outputs: how they are fed

    @property
    def pipeline(self) -> str:
        return self.contract.pipeline

    @property
    def record_outputs(self) -> list[str]:
        """Stateless outputs, which the record query writes."""
        return [name for name, output in self.outputs.items() if not output.stateful]

    @property
    def stateful_outputs(self) -> list[str]:
        return [name for name, output in self.outputs.items() if output.stateful]

    def to_json(self) -> dict[str, Any]:
        decided: dict[str, Any] = {"lane": self.lane} if self.lane is not None else {}
        if self.fed:
            decided["fed"] = dict(self.fed)
        return {
            "hash": self.hash,
            "contract": self.contract.model_dump(mode="json", exclude_defaults=True),
            "topics": dict(self.topics),
            "replication": self.replication,
            "outputs": {name: asdict(output) for name, output in self.outputs.items()},
            "env": self.env,
            "headgate_version": self.headgate_version,
            **decided,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FrozenContract:
        return cls(
            hash=data["hash"],
            contract=Contract.model_validate(data["contract"]),
            topics=data["topics"],
            replication=data["replication"],
            outputs={name: ResolvedOutput(**value) for name, value in data["outputs"].items()},
            env=data["env"],
            headgate_version=data["headgate_version"],
            lane=data.get("lane"),
            fed=data.get("fed", {}),
        )


def freeze(
    contract: Contract,
    *,
    topics: Mapping[str, str],
    replication: int,
    outputs: Mapping[str, ResolvedOutput],
    env: str,
    headgate_version: str,
) -> FrozenContract:
    """Give a resolved contract its hash: SHA-256 of its canonical JSON, without the version of headgate."""
    return _hashed(FrozenContract("", contract, topics, replication, outputs, env, headgate_version))


def with_lane(
    frozen: FrozenContract, lane: Lane | None, fed: Mapping[str, Lane] | None = None
) -> FrozenContract:
    """The same contract with the lanes that it leaves open: another version of headgate may come to others,
    and a stream changes by a plan alone."""
    return _hashed(replace(frozen, lane=lane, fed=fed or {})) if lane or fed else frozen


def _hashed(frozen: FrozenContract) -> FrozenContract:
    draft = replace(frozen, hash="", headgate_version="")
    canonical = json.dumps(draft.to_json(), sort_keys=True, separators=(",", ":"))
    return replace(frozen, hash=hashlib.sha256(canonical.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Applied:
    """The pointer of one pipeline. Small on purpose: DAG files read one per pipeline at each parse."""

    pipeline: str
    hash: str
    version: int
    applied_at: float
    applied_by: str
    owner: str
    description: str
    file: str
    quality_every: float | None  # seconds, None without a quality section
    previous: str | None = None


class ContractStore:
    """The folder of applied contracts. Writers hold the plan's lock; readers need none."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "contracts"
        self._applied = self._folder / "applied"

    def put(self, frozen: FrozenContract) -> Path:
        """Store a contract under its hash; an existing one stays as it is."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{frozen.hash}.json"
        if not path.exists():
            _write(path, json.dumps(frozen.to_json(), indent=1, sort_keys=True))
        return path

    def get(self, contract_hash: str) -> FrozenContract:
        try:
            text = (self._folder / f"{contract_hash}.json").read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise NotFoundError(
                f"no contract {contract_hash} is stored in {self._folder}", help="headgate apply"
            ) from error
        return FrozenContract.from_json(json.loads(text))

    def stored(self, pipeline: str) -> list[str]:
        """The hashes of all contracts of a pipeline that were ever applied. Raises ValueError, KeyError for a
        file that is damaged."""
        found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in self._stored()}
        return [hash for hash, data in found.items() if data["contract"]["pipeline"] == pipeline]

    def _stored(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.json") if not path.name.startswith("."))

    def set_applied(self, frozen: FrozenContract, *, at: float, by: str, file: str) -> Applied:
        before = self.applied().get(frozen.pipeline)
        quality = frozen.contract.quality
        pointer = Applied(
            pipeline=frozen.pipeline,
            hash=frozen.hash,
            version=frozen.contract.version,
            applied_at=at,
            applied_by=by,
            owner=frozen.contract.owner,
            description=frozen.contract.description,
            file=file,
            quality_every=seconds(quality.every) if quality else None,
            previous=before.hash if before and before.hash != frozen.hash else None,
        )
        self._applied.mkdir(parents=True, exist_ok=True)
        _write(self._applied / f"{frozen.pipeline}.json", json.dumps(asdict(pointer), indent=1))
        return pointer

    def withdraw(self, pipeline: str) -> None:
        """Nothing is applied for this pipeline any more; its contracts stay stored."""
        (self._applied / f"{pipeline}.json").unlink(missing_ok=True)

    def applied(self) -> dict[str, Applied]:
        """All applied contracts by pipeline, in the order of their names.

        One pointer that cannot be read is logged and left out: it must not take the DAGs, the REST API
        and the status of every other pipeline with it.
        """
        found = {}
        for path in sorted(self._applied.glob("*.json")):
            try:
                found[path.stem] = Applied(**json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                _log.error("the pointer %s is damaged, its pipeline is left out: %s", path, error)
        return found

    def current(self, pipeline: str) -> FrozenContract:
        """The applied contract of a pipeline. Raises NotFoundError."""
        pointer = self.applied().get(pipeline)
        if pointer is None:
            known = ", ".join(self.applied()) or "none"
            raise NotFoundError(
                f"no contract of pipeline {pipeline!r} is applied",
                expected=f"one of the applied pipelines: {known}",
                help="headgate plan && headgate apply",
            )
        return self.get(pointer.hash)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
