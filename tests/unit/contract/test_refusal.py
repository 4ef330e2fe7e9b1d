"""A rule that stops the stream: what a task says, and what is found of it in Spark's text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.contract.refusal import RecordPlace, RecordRefused, Refusal, refusal_in

REFUSAL = Refusal("orders", "events", "orders-in", "never", "id < 0")


@given(
    st.builds(Refusal, st.text(), st.text(), st.text(), st.text(), st.text()),
    st.builds(RecordPlace, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)),
    st.text(),
    st.text(),
)
def test_a_mark_is_found_in_whatever_text_spark_makes_of_it(refusal, place, before, behind):
    mark = str(RecordRefused(refusal, place))
    found = refusal_in(f"{before}\n{mark}{behind}")
    assert str(found) == str(refusal.error(place))
    assert not set("$<>[]\n") & set(mark), "Spark's messages are templates, and conditions stand in brackets"


def test_it_says_where_the_record_is_what_the_rule_says_and_what_can_be_done():
    assert str(REFUSAL.error(RecordPlace(3, 17))) == (
        "a record of source events broke the rule never: topic orders-in, partition 3, offset 17\n"
        "  expected: id < 0, for the rule says `otherwise: fail`\n"
        "  help: fix the producer, or say `otherwise: quarantine` and `headgate plan` and `headgate apply`; "
        "then `headgate restart orders`"
    )
    many = str(REFUSAL.error(RecordPlace(3, 17), 200))
    assert many.startswith("200 records of source events broke the rule never: the first of them in topic")
    assert "topic" not in str(REFUSAL.error(None, 2))


def test_a_text_without_a_mark_or_with_a_part_of_one_says_nothing():
    mark = str(RecordRefused(REFUSAL, RecordPlace(3, 17)))
    assert str(refusal_in(f"concat({mark[:-10]}, cast(p))\n{mark}")) == str(REFUSAL.error(RecordPlace(3, 17)))
    assert refusal_in("[DIVIDE_BY_ZERO] Division by zero") is None
    assert refusal_in(mark[:-10]) is None
    assert (
        refusal_in('headgate.rule_failed {"refusal": {"rule": "never"}, "partition": 1, "offset": 2}') is None
    )
    assert refusal_in('headgate.rule_failed ["never"]') is None
