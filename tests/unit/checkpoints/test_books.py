from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.checkpoints.books import KEEP_PAGES, Page, Totals, last_page, read_page, write_page
from headgate.errors import RefusedError

COUNT = st.integers(0, 10**12)
BATCH = st.builds(
    lambda good, bad, warned, rules: Totals(good + bad, good, bad, warned, rules),
    COUNT,
    COUNT,
    COUNT,
    st.dictionaries(st.sampled_from(["_parse", "positive", "known"]), COUNT),
)


def the_sum(batches: list[Totals]) -> Totals:
    names = sorted({name for batch in batches for name in batch.rules})
    return Totals(
        sum(b.read for b in batches),
        sum(b.good for b in batches),
        sum(b.quarantined for b in batches),
        sum(b.warned for b in batches),
        {name: sum(b.rules.get(name, 0) for b in batches) for name in names},
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(BATCH, min_size=1, max_size=12), st.data())
def test_the_totals_are_the_sum_of_the_batches_however_often_one_is_run_again(batches, data):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number, batch in enumerate(batches):
            for _ in range(data.draw(st.integers(1, 3))):
                page = write_page(folder, number, batch)
            assert page == Page(number, batch, page.total)
        assert page.total == the_sum(batches)
        assert page.total.read == page.total.good + page.total.quarantined
        assert last_page(folder, len(batches) - 1) == page


def test_a_batch_that_runs_again_with_other_counts_replaces_its_page(tmp_path):
    write_page(tmp_path, 0, Totals(5, 5))
    write_page(tmp_path, 1, Totals(7, 7))
    assert write_page(tmp_path, 1, Totals(9, 8, 1)).total == Totals(14, 13, 1)


def test_a_page_beyond_the_committed_batch_does_not_count(tmp_path):
    for number in range(3):
        write_page(tmp_path, number, Totals(1, 1))
    page = last_page(tmp_path, 1)
    assert page is not None
    assert (page.batch_id, page.total.read) == (1, 2)


def test_there_is_no_last_page_before_the_first(tmp_path):
    assert last_page(tmp_path, 0) is None
    assert last_page(tmp_path / "nowhere", 5) is None
    assert read_page(tmp_path, 0) is None


def test_a_gap_in_the_books_is_an_error_and_writes_nothing(tmp_path):
    write_page(tmp_path, 0, Totals(1, 1))
    with pytest.raises(RefusedError, match="the books of batch 1 are missing"):
        write_page(tmp_path, 2, Totals(1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["0.json"]


def test_old_pages_go_and_those_that_can_be_needed_stay(tmp_path):
    for number in range(KEEP_PAGES + 3):
        write_page(tmp_path, number, Totals(1, 1))
    names = {int(path.stem) for path in tmp_path.iterdir()}
    assert names == set(range(3, KEEP_PAGES + 3))
    page = last_page(tmp_path, KEEP_PAGES + 2)
    assert page is not None
    assert page.total.read == KEEP_PAGES + 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"batch_id": 0}', '{"batch_id": 0, "batch": {"x": 1}}'])
def test_a_damaged_page_is_refused_with_its_name(text, tmp_path):
    (tmp_path / "0.json").write_text(text)
    with pytest.raises(RefusedError) as caught:
        write_page(tmp_path, 1, Totals(1, 1))
    assert str(tmp_path / "0.json") in caught.value.message


def test_a_page_is_plain_json_for_other_readers(tmp_path):
    write_page(tmp_path, 0, Totals(3, 2, 1, 0, {"positive": 1}))
    data = json.loads((tmp_path / "0.json").read_text())
    assert data["total"] == {"read": 3, "good": 2, "quarantined": 1, "warned": 0, "rules": {"positive": 1}}
