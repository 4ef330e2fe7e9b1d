"""Which lane a driver runs: the one that was applied, told, and never another one."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from two_lanes import frozen_of, lane_context

from headgate.arrow import choice
from headgate.arrow.doubts import Doubts
from headgate.contract.frozen import FrozenContract, with_lane
from headgate.errors import HeadgateError
from headgate.streams.model import FailureClass, QueryProgress
from headgate.tables.access import S3Access
from headgate.tables.place import S3Folder
from spark.arrow_lane import ArrowLane
from spark.failure import failure_of
from spark.lane import lane_of
from spark.record import RecordQuery

SOURCE = {"topic": "t", "columns": [{"name": "n", "type": "int"}]}


def contract(lane: str) -> FrozenContract:
    outputs = {"all": {"sql": "SELECT n FROM a", "to": [{"delta": "all_of"}], "lane": lane}}
    return frozen_of(SOURCE, outputs, {"all": {"n": "int"}})


def started(frozen: FrozenContract, folder: Any) -> tuple[Any, dict[str, Any]]:
    told: dict[str, Any] = {}
    status: Any = SimpleNamespace(change=lambda **more: told.update(more))
    return lane_of(lane_context(frozen, folder), lambda _: None, status), told


@pytest.mark.parametrize(
    ("frozen", "lane", "told"),
    [
        (contract("arrow"), ArrowLane, "arrow: the contract asks for it"),
        (contract("jvm"), RecordQuery, "jvm: the contract says so"),
        (with_lane(contract("auto"), "arrow"), ArrowLane, "arrow: it gives the same"),
        (with_lane(contract("auto"), "jvm"), RecordQuery, "jvm: so it was when the contract was applied"),
        (contract("auto"), ArrowLane, "arrow: it gives the same"),
    ],
    ids=["arrow", "jvm", "auto-arrow", "auto-jvm", "auto-of-old"],
)
def test_a_driver_tells_its_lane_and_why_in_its_status_and_its_log(tmp_path, caplog, frozen, lane, told):
    caplog.set_level(logging.INFO, "headgate.driver")
    found, status = started(frozen, tmp_path)
    assert type(found) is lane
    assert status == {"lane": told}
    assert f"the lane of the records is {told}" in caplog.text


def test_a_batch_that_waits_for_the_tasks_of_another_query_shows_their_ends(tmp_path):
    told: dict[str, QueryProgress] = {}
    shared: Any = SimpleNamespace()
    status: Any = SimpleNamespace(
        change=lambda **_: None, query=lambda name, change: told.update({name: change(QueryProgress())})
    )
    lane_of(lane_context(contract("arrow"), tmp_path), lambda _: None, status, shared)
    shared.came_on()
    assert told["records"].last_task_at is not None


def test_a_topic_that_arrow_does_not_surely_read_is_told_in_the_status_and_its_end_too(tmp_path, caplog):
    caplog.set_level(logging.INFO, "headgate.driver")
    found, status = started(contract("arrow"), tmp_path)
    assert isinstance(found, ArrowLane)
    doubts = Doubts()
    doubts.note(1000, 800)
    found._doubted(doubts)
    assert status["lane"].startswith("arrow: the contract asks for it; most of the newest records")
    assert "lane: jvm" in caplog.text
    doubts.note(10_000, 0)
    found._doubted(doubts)
    assert status["lane"] == "arrow: the contract asks for it"


@pytest.mark.parametrize(
    "frozen", [contract("arrow"), with_lane(contract("auto"), "arrow")], ids=["arrow", "auto"]
)
def test_an_applied_arrow_lane_that_cannot_be_any_more_is_refused_with_the_choices(
    tmp_path, monkeypatch, frozen
):
    monkeypatch.setattr(choice, "_unsupported", lambda _: "rule r: `x` is not known to the Arrow lane")
    with pytest.raises(HeadgateError, match="rule r: `x` is not known") as caught:
        started(frozen, tmp_path)
    for word in ("`lane: jvm`", "`lane: auto`", "headgate plan", "headgate apply", "headgate restart"):
        assert word in str(caught.value.help)
    assert failure_of(caught.value).failure_class == FailureClass.DETERMINISTIC.value


def test_a_driver_writes_nothing_to_s3_in_the_lane_whose_commits_are_not_fenced_there(tmp_path):
    context = lane_context(contract("jvm"), tmp_path)
    context.settings.tables = S3Folder(S3Access("us-east-1", tmp_path), "lake")
    status: Any = SimpleNamespace(change=lambda **_: None)
    with pytest.raises(HeadgateError, match="records of example cannot have tables at s3://lake"):
        lane_of(context, lambda _: None, status)
