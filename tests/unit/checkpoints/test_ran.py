"""Every contract that has run on a pipeline's checkpoints."""

from __future__ import annotations

import pytest

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import Lineage, begin_lineage, note_contract
from headgate.checkpoints.ran import contracts_ran, note_ran
from headgate.errors import RefusedError


@pytest.fixture
def layout(tmp_path):
    return CheckpointLayout(tmp_path, "shop")


def begun(layout: CheckpointLayout, generation: int = 0) -> Lineage:
    return begin_lineage(layout, contract_hash="a", spark_version="4", at=1.0, generation=generation)


def test_from_the_first_lineage_on_it_is_whole_and_each_is_there_once_in_order(layout):
    assert contracts_ran(layout) == ([], False)
    first = begun(layout)
    for contract in ("a", "b", "a"):
        note_ran(layout, first, contract)
        note_contract(layout, first.id, "records", contract)
    note_ran(layout, begun(layout, 7), "c")
    assert contracts_ran(layout) == (["a", "b", "c"], True)


def test_a_list_that_was_begun_later_is_not_whole(layout):
    lineage = begun(layout)
    note_contract(layout, lineage.id, "records", "a")
    note_ran(layout, lineage, "b")
    assert contracts_ran(layout) == (["b"], False)


@pytest.mark.parametrize("generations", [(3,), (0, 3), (0, 0)])
def test_a_lineage_that_began_by_an_order_or_was_not_the_first_says_nothing_of_the_tables(
    layout, generations
):
    for generation in generations:
        lineage = begun(layout, generation)
    note_ran(layout, lineage, "b")
    assert contracts_ran(layout) == (["b"], False)


def test_a_damaged_list_stops_no_stream_and_is_whole_no_more(layout):
    lineage = begun(layout)
    note_ran(layout, lineage, "a")
    (layout.folder / "contracts.json").write_text("{")
    with pytest.raises(RefusedError, match="cannot be read"):
        contracts_ran(layout)
    note_ran(layout, lineage, "b")
    assert contracts_ran(layout) == (["b"], False)
