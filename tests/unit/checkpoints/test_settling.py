"""What a driver does about its checkpoint before Spark runs, on a real contract and without a broker."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract_examples import ORDERS
from spark_checkpoint import batch, begin_query, commit

from headgate.checkpoints import settling
from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import note_contract
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.settling import settle_generation
from headgate.checkpoints.sinks import Sink, sinks_of
from headgate.checkpoints.snapshots import find_snapshots, read_snapshot
from headgate.checkpoints.wayback import way_back
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.errors import NotFoundError, RefusedError
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


# An upgrade whose way back cannot be kept: the state is damaged, and the order begins somewhere else.


@pytest.fixture
def changed(settings, frozen):
    found = freeze(
        frozen.contract.model_copy(update={"version": 2}),
        topics=frozen.topics,
        replication=1,
        outputs=frozen.outputs,
        env="local",
        headgate_version="0",
    )
    ContractStore(settings.state).put(found)
    assert found.hash != frozen.hash
    return found


def run_under(settings: Settings, frozen: FrozenContract, numbers: range) -> None:
    layout = layout_of(settings)
    for query in ("records", "per_minute"):
        note_contract(layout, str(layout.current_lineage()), query, frozen.hash)
    run_batches(settings, numbers)


def back(settings: Settings, frozen: FrozenContract) -> Any:
    return way_back(settings.snapshots_root, layout_of(settings), "upgrade-2", frozen.hash)


def elsewhere(frozen: FrozenContract) -> Origin:
    offsets = {"orders": {0: 0, 1: 0}}
    return Origin("earliest", offsets=offsets, keep="upgrade-2", contract=frozen.hash)


def upgraded_over_damage(settings: Settings, frozen: FrozenContract, changed: FrozenContract) -> Any:
    lineage = settled(settings, frozen, None, 1)
    run_under(settings, frozen, range(3))
    damaged = layout_of(settings).query(lineage.id, "per_minute") / "state" / "0" / "0" / "2.delta"
    damaged.write_bytes(b"")
    return settled(settings, changed, elsewhere(frozen), 2)


def test_what_the_upgrade_itself_began_is_never_kept_as_the_way_back(settings, frozen, changed):
    begun = upgraded_over_damage(settings, frozen, changed)
    run_under(settings, changed, range(2))
    # A later epoch of the same generation, and a later order while the upgrade is on trial.
    assert settled(settings, changed, elsewhere(frozen), 2) == begun
    keep = Origin("checkpoint", keep="upgrade-2", contract=frozen.hash)
    assert settled(settings, changed, keep, 3) == begun
    assert find_snapshots(settings.snapshots_root, "orders") == []


def test_that_nothing_could_be_kept_is_written_down_with_its_reason(settings, frozen, changed):
    begun = upgraded_over_damage(settings, frozen, changed)
    assert "2.delta is empty" in begun.origin["not_kept"]
    found = back(settings, frozen)
    assert (found.kept, "2.delta is empty" in found.lost) == (False, True)
    # The next lineage of the same upgrade says the same, not more.
    again = settled(settings, changed, elsewhere(frozen), 3)
    assert again.id != begun.id
    assert again.origin["not_kept"] == begun.origin["not_kept"]


def test_the_old_contract_does_not_go_on_from_the_state_of_the_new_one(settings, frozen, changed):
    upgraded_over_damage(settings, frozen, changed)
    run_under(settings, changed, range(2))
    with pytest.raises(RefusedError, match=r"no way back.*2\.delta is empty") as caught:
        settled(settings, frozen, Origin("snapshot", snapshot="upgrade-2"), 3)
    assert "--from" in str(caught.value.help)


def test_there_is_a_way_back_until_the_new_contract_has_run(settings, frozen, changed):
    settled(settings, frozen, None, 1)
    run_under(settings, frozen, range(3))
    assert (back(settings, frozen).kept, back(settings, frozen).lost) == (False, "")
    settled(settings, changed, Origin("checkpoint", keep="upgrade-2", contract=frozen.hash), 2)
    run_under(settings, changed, range(3, 5))
    assert (back(settings, frozen).kept, back(settings, frozen).lost) == (True, "")


def test_a_snapshot_that_went_away_in_the_middle_of_the_trial_is_not_taken_again(settings, frozen, changed):
    settled(settings, frozen, None, 1)
    run_under(settings, frozen, range(3))
    keep = Origin("checkpoint", keep="upgrade-2", contract=frozen.hash)
    settled(settings, changed, keep, 2)
    run_under(settings, changed, range(3, 5))
    kept: Path = settings.snapshots_root / "orders" / "upgrade-2"
    kept.rename(kept.with_name(".gone"))
    settled(settings, changed, keep, 2)
    assert find_snapshots(settings.snapshots_root, "orders") == []
    assert changed.hash[:12] in back(settings, frozen).lost


def test_a_damaged_checkpoint_that_is_to_go_on_is_refused_before_the_new_contract_runs(
    settings, frozen, changed
):
    lineage = settled(settings, frozen, None, 1)
    run_under(settings, frozen, range(3))
    (layout_of(settings).query(lineage.id, "per_minute") / "state" / "0" / "0" / "2.delta").write_bytes(b"")
    with pytest.raises(RefusedError, match=r"2\.delta is empty"):
        settled(settings, changed, Origin("checkpoint", keep="upgrade-2", contract=frozen.hash), 2)
    assert back(settings, frozen).lost == "", "nothing of the new contract has run"


def test_an_upgrade_without_a_checkpoint_to_keep_has_no_way_back(settings, frozen, changed):
    settled(settings, changed, Origin("checkpoint", keep="upgrade-2", contract=frozen.hash), 2)
    assert changed.hash[:12] in back(settings, frozen).lost
