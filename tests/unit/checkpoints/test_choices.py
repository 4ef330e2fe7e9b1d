from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.checkpoints.choices import Place, begin_at
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.sinks import Sink

COPY = Sink("copy", "records", ("copy",), keyed=False)
SUMS = Sink("sums", "sums", ("sums",), keyed=True)
QUARANTINE = Sink("_quarantine", "records", ("_quarantine.orders",), keyed=False)
SINKS = (COPY, SUMS, QUARANTINE)


def places(committed: int | None, low: int = 100, end: int = 1000) -> list[Place]:
    return [Place(query, "orders", 0, low, end, committed) for query in ("records", "sums")]


def planned(begin: int, committed: int | None, written: frozenset[str] = frozenset(), kind: str = "offsets"):
    origin = Origin(kind, offsets={"orders": {0: begin}})
    return begin_at("shop", origin, places(committed), SINKS, written)


def test_going_back_repeats_what_lies_before_the_committed_offset_and_doubles_what_is_appended():
    plan = planned(100, 600, kind="earliest")
    assert [span.again for span in plan.spans] == [(100, 600), (100, 600)]
    assert (plan.repeats, plan.loses) == (1000, 0)  # 500 in each of two queries
    effects = {effect.table: effect for effect in plan.effects}
    assert effects["copy"].doubles
    assert effects["_quarantine"].doubles
    assert not effects["sums"].doubles
    assert "the same values" in effects["sums"].text
    assert any("snapshot" in note for note in plan.notes)
    assert not plan.problems


def test_going_forward_skips_records_and_says_that_groups_are_cut():
    plan = planned(1000, 600, kind="latest")
    assert [span.skipped for span in plan.spans] == [(600, 1000), (600, 1000)]
    assert plan.repeats == 0
    texts = {effect.table: effect.text for effect in plan.effects}
    assert "400 skipped records" in texts["copy"]
    assert "from the start on only" in texts["sums"]
    assert not any(effect.doubles for effect in plan.effects)


def test_a_checkpoint_that_is_gone_is_not_called_harmless_where_tables_hold_rows():
    plan = planned(100, None, frozenset({"copy"}))
    texts = {effect.table: effect for effect in plan.effects}
    assert texts["copy"].doubles
    assert "not known" in texts["copy"].text
    assert not texts["_quarantine"].doubles


def test_offsets_that_are_gone_or_not_there_yet_are_problems():
    assert "retention took 40 to 99" in planned(40, 600).problems[0]
    assert "ends at 1000" in planned(1001, 600).problems[0]
    assert len(planned(40, 600).problems) == 1  # of two queries, told once


def test_every_partition_needs_an_offset_and_no_other_may_have_one():
    origin = Origin("offsets", offsets={"orders": {1: 5}, "else": {0: 1}})
    problems = begin_at("shop", origin, places(600), SINKS).problems
    assert len(problems) == 3
    assert "no offset is given" in problems[0]
    assert "reads no such partition" in problems[1]


def test_the_plan_is_json():
    data = json.loads(json.dumps(planned(100, 600).to_json()))
    assert (data["repeats"], data["loses"], data["destructive"]) == (1000, 0, True)
    assert data["origin"]["offsets"] == {"orders": {"0": 100}}


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.none() | st.integers(0, 50))
def test_each_record_is_read_again_skipped_or_read_in_turn(low, length, begin, committed):
    place = Place("records", "orders", 0, low, low + length, committed)
    origin = Origin("offsets", offsets={"orders": {0: begin}})
    plan = begin_at("shop", origin, [place], SINKS)
    (span,) = plan.spans
    position = low if committed is None else committed
    for offset in range(120):
        again = span.again is not None and span.again[0] <= offset < span.again[1]
        skipped = span.skipped is not None and span.skipped[0] <= offset < span.skipped[1]
        was_read, will_be_read = committed is not None and offset < position, offset >= begin
        assert again == (was_read and will_be_read)
        assert skipped == (position <= offset < begin)
    assert bool(plan.problems) == (not low <= begin <= low + length)
