from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import Lineage, new_lineage, read_lineage, write_lineage
from headgate.checkpoints.origin import Origin, read_origin, settle, starts_of, unsettled, write_origin
from headgate.errors import RefusedError, UsageError

AT_TEN = Origin("offsets", offsets={"t": {0: 10, 1: 20}})


def settled(layout: CheckpointLayout, origin: Origin | None, generation: int, at: float = 1.0) -> Lineage:
    return settle(
        layout,
        origin,
        generation=generation,
        queries=("records", "sums"),
        contract_hash="abc",
        spark_version="4.2.0",
        at=at,
        tables=(),
    )


@pytest.fixture
def layout(tmp_path):
    return CheckpointLayout(tmp_path, "shop")


def test_without_an_origin_a_generation_goes_on_with_the_lineage_that_runs(layout):
    first = settled(layout, None, 1)
    assert settled(layout, None, 2) == first
    assert settled(layout, Origin("checkpoint"), 3) == first


def test_an_origin_begins_a_lineage_and_later_epochs_of_the_generation_find_it(layout):
    first = settled(layout, None, 1)
    begun = settled(layout, AT_TEN, 2)
    assert begun.id != first.id
    assert layout.current_lineage() == begun.id
    assert settled(layout, AT_TEN, 2, at=9.0) == begun
    assert settled(layout, None, 3) == begun


def test_a_checkpoint_is_about_to_be_left_until_the_generation_has_settled(layout):
    settled(layout, None, 1)
    assert unsettled(layout, AT_TEN, 2)
    assert not unsettled(layout, None, 2)
    assert not unsettled(layout, Origin("checkpoint", keep="x"), 2)
    settled(layout, AT_TEN, 2)
    assert not unsettled(layout, AT_TEN, 2)
    assert unsettled(layout, AT_TEN, 3)


def test_each_generation_with_an_origin_begins_a_lineage_of_its_own(layout):
    ids = [settled(layout, AT_TEN, generation).id for generation in (1, 2, 3)]
    assert len(set(ids)) == 3


def test_a_driver_killed_before_it_pointed_at_the_lineage_leaves_it_for_the_next(layout):
    settled(layout, None, 1)
    begun = new_lineage(
        layout, contract_hash="abc", spark_version="4", at=1.0, generation=2, origin=AT_TEN.to_json()
    )
    layout.lineage(begun.id).mkdir()
    write_lineage(layout.lineage(begun.id), begun)
    assert settled(layout, AT_TEN, 2) == begun
    assert layout.current_lineage() == begun.id


def test_a_driver_killed_before_the_lineage_was_written_down_leaves_nothing_behind_that_counts(layout):
    settled(layout, None, 1)
    (layout.folder / "2-dead").mkdir()
    begun = settled(layout, AT_TEN, 2)
    assert layout.current_lineage() == begun.id != "2-dead"


def test_a_damaged_lineage_does_not_keep_another_from_beginning(layout):
    first = settled(layout, None, 1)
    (layout.lineage(first.id) / "lineage.json").write_text("{")
    assert settled(layout, AT_TEN, 2).generation == 2


def test_a_lineage_written_before_there_were_origins_is_read(layout):
    first = settled(layout, None, 1)
    path = layout.lineage(first.id) / "lineage.json"
    old = json.loads(path.read_text())
    del old["generation"], old["origin"]
    path.write_text(json.dumps(old))
    assert read_lineage(layout, first.id) == first


def test_all_queries_begin_at_the_same_offsets_and_younger_partitions_at_their_first_record(layout):
    lineage = settled(layout, AT_TEN, 1)
    expected = {"t": {0: 10, 1: 20, 2: -2}}
    assert starts_of(lineage, "records", {"t": 3}) == expected
    assert starts_of(lineage, "sums", {"t": 3}) == expected


def test_a_query_that_the_contract_got_later_begins_where_the_contract_says(layout):
    lineage = settled(layout, AT_TEN, 1)
    assert starts_of(lineage, "later", {"t": 3}) == {}
    assert starts_of(settled(CheckpointLayout(layout.root, "other"), None, 1), "records", {"t": 3}) == {}


_OFFSETS = st.dictionaries(
    st.text("abc.-", min_size=1), st.dictionaries(st.integers(0, 99), st.integers(0, 2**62))
)


@settings(deadline=None)
@given(_OFFSETS, st.text(max_size=20))
def test_an_origin_survives_json(offsets, note):
    origin = Origin("offsets", offsets=offsets, note=note)
    assert Origin.from_json(json.loads(json.dumps(origin.to_json()))) == origin


def test_an_origin_survives_its_file_and_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "origin-3.json"
    write_origin(path, AT_TEN)
    assert read_origin(path) == AT_TEN
    path.write_text('{"kind"')
    with pytest.raises(RefusedError, match="cannot be used"):
        read_origin(path)
    with pytest.raises(RefusedError, match="cannot be used"):
        read_origin(tmp_path / "gone.json")


@pytest.mark.parametrize(
    "data", [{"kind": "nowhere"}, {}, {"kind": "offsets", "offsets": {"t": 3}}, {"kind": "offsets", "x": 1}]
)
def test_what_is_no_origin_is_refused(data):
    with pytest.raises(UsageError):
        Origin.from_json(data)
