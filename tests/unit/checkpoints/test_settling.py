"""What a driver does about its checkpoint before Spark runs, on a real contract and without a broker."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import yaml
from contract_examples import ORDERS
from spark_checkpoint import batch, begin_query, commit

from headgate.checkpoints import settling
from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.settling import settle_generation
from headgate.checkpoints.sinks import Sink, sinks_of
from headgate.checkpoints.snapshots import find_snapshots, read_snapshot
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.errors import NotFoundError
from headgate.settings import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(settling, "admin_client", lambda _: nullcontext())
    monkeypatch.setattr(settling, "topic_partitions", lambda _, names: {n: (f"id-{n}", 2) for n in names})
    return Settings(home=tmp_path)


@pytest.fixture
def frozen(settings):
    schema: dict[str, Any] = {"fields": []}
    outputs = {"per_minute": ResolvedOutput(True, schema), "copy": ResolvedOutput(False, schema)}
    found = freeze(
        Contract.model_validate(yaml.safe_load(ORDERS)),
        topics={"orders": "orders"},
        replication=1,
        outputs=outputs,
        env="local",
        headgate_version="0",
    )
    ContractStore(settings.state).put(found)
    return found


def settled(settings: Settings, frozen: FrozenContract, origin: Origin | None, generation: int) -> Any:
    return settle_generation(
        settings, frozen, origin, generation=generation, spark_version="4", at=float(generation)
    )


def layout_of(settings: Settings) -> CheckpointLayout:
    return CheckpointLayout(settings.checkpoints, "orders")


def run_batches(settings: Settings, numbers: range) -> None:
    layout = layout_of(settings)
    for query in ("records", "per_minute"):
        folder = layout.query(str(layout.current_lineage()), query)
        begin_query(folder)
        for number in numbers:
            batch(folder, number, number + 1)
            commit(folder, number)


def test_the_sinks_of_a_contract_are_its_tables_and_the_quarantine(frozen):
    assert sinks_of(frozen) == (
        Sink("per_minute", "per_minute", ("per_minute",), keyed=True),
        Sink("copies", "records", ("copy",), keyed=False),
        Sink("_quarantine", "records", ("_quarantine.orders",), keyed=False),
    )


def test_an_upgrade_keeps_a_snapshot_once_before_anything_runs(settings, frozen):
    lineage = settled(settings, frozen, None, 1)
    run_batches(settings, range(3))
    keep = Origin("checkpoint", keep="upgrade-2", contract=frozen.hash)
    assert settled(settings, frozen, keep, 2) == lineage
    kept = read_snapshot(settings.snapshots_root, "orders", "upgrade-2")
    assert (kept.queries["records"], kept.contract_hash, kept.reason) == (2, frozen.hash, "upgrade")
    assert kept.topics == {"orders": "id-orders"}

    # A later epoch of the same generation, after the new contract has run: the snapshot stays as it was.
    run_batches(settings, range(3, 5))
    settled(settings, frozen, keep, 2)
    assert read_snapshot(settings.snapshots_root, "orders", "upgrade-2") == kept


def test_without_a_checkpoint_there_is_nothing_to_keep(settings, frozen):
    settled(settings, frozen, Origin("checkpoint", keep="upgrade-1", contract=frozen.hash), 1)
    assert find_snapshots(settings.snapshots_root, "orders") == []


def test_the_way_back_goes_on_where_it_was_when_the_new_contract_never_ran(settings, frozen):
    lineage = settled(settings, frozen, None, 1)
    assert settled(settings, frozen, Origin("snapshot", snapshot="upgrade-2"), 3) == lineage
    with pytest.raises(NotFoundError):  # a person has named it: then it has to be there
        settled(settings, frozen, Origin("snapshot", snapshot="mine", way="new lineage"), 4)


def test_the_way_back_after_the_new_contract_ran_begins_a_lineage_from_the_snapshot(settings, frozen):
    lineage = settled(settings, frozen, None, 1)
    run_batches(settings, range(3))
    settled(settings, frozen, Origin("checkpoint", keep="upgrade-2", contract=frozen.hash), 2)
    run_batches(settings, range(3, 5))
    back = settled(settings, frozen, Origin("snapshot", snapshot="upgrade-2"), 3)
    assert back.id != lineage.id
    assert layout_of(settings).current_lineage() == back.id
    commits = layout_of(settings).query(back.id, "records") / "commits"
    assert sorted(int(path.name) for path in commits.iterdir()) == [0, 1, 2]
    assert settled(settings, frozen, Origin("snapshot", snapshot="upgrade-2"), 3) == back
    assert settled(settings, frozen, None, 4) == back
