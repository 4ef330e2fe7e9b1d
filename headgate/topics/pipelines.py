"""From the folder of contracts to a plan: what `headgate plan`, `headgate apply` and the DAGs start with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.contract.loader import LoadedContract, load_contracts, parse_contract
from headgate.contract.resolve import resolve
from headgate.errors import ContractError
from headgate.quality.vocabulary import column_problems, expectation_problems
from headgate.settings import Settings
from headgate.topics.plan import Plan, make_plan

__all__ = ["load_pipelines", "plan_pipelines"]


def plan_pipelines(
    settings: Settings, names: Sequence[str] = (), tell: Callable[[str], None] = lambda _: None
) -> Plan:
    """Plan the named pipelines, or all of them together with what has lost its file. `tell` is that of
    `resolve`.

    Raises ContractError with every problem, NotFoundError, KafkaUnavailable, StoreUnavailable, ServiceError.
    """
    loaded = load_pipelines(settings, names)
    frozen = _resolve(settings, loaded, tell)
    removed = [] if names else _removed(settings, loaded)
    files = {item.contract.pipeline: item.name for item in loaded}
    return make_plan(settings, frozen, files=files, removed=removed)


def _resolve(
    settings: Settings, loaded: Sequence[LoadedContract], tell: Callable[[str], None]
) -> list[FrozenContract]:
    """Raises ContractError with what Spark and Great Expectations object to, together."""
    problems = expectation_problems(loaded)
    try:
        frozen = resolve(loaded, settings, tell)
        problems += column_problems(loaded, frozen)
    except ContractError as error:
        problems += error.problems
    if problems:
        raise ContractError(sorted(problems, key=lambda each: (each.file, each.line, each.column)))
    return frozen


def load_pipelines(settings: Settings, names: Sequence[str] = ()) -> list[LoadedContract]:
    """The named contracts, or all. One that is asked for by name is not held up by another file's
    problems: a stream must be able to restart while somebody edits its neighbour."""
    folder = settings.pipelines_dir
    if names and folder.is_dir():
        files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        parsed = [item for item in map(parse_contract, files) if isinstance(item, LoadedContract)]
        found = [item for item in parsed if item.contract.pipeline in names]
        if sorted(item.contract.pipeline for item in found) == sorted(set(names)):
            return found
    return load_contracts(folder, only=names)


def _removed(settings: Settings, loaded: Sequence[LoadedContract]) -> list[str]:
    there = {item.contract.pipeline for item in loaded}
    return [name for name in ContractStore(settings.state).applied() if name not in there]
