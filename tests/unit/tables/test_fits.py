"""Which contracts can have their tables on S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from two_lanes import frozen_of

from headgate.contract.frozen import FrozenContract, with_lane
from headgate.tables.access import S3Access
from headgate.tables.fits import unfit
from headgate.tables.place import S3Folder

S3 = S3Folder(S3Access("us-east-1", Path()), "lake")
SOURCE = {"topic": "t", "columns": [{"name": "n", "type": "int"}]}


def frozen(
    *, lane: str | None = None, to: dict[str, Any] | None = None, stateful: bool = False
) -> FrozenContract:
    output: dict[str, Any] = {"sql": "SELECT n FROM a", "to": [to or {"delta": "copy"}]}
    if lane is not None:
        output["lane"] = lane
    return frozen_of(SOURCE, {"copy": output}, {"copy": {"n": "int"}}, stateful=stateful)


def test_on_a_disk_everything_fits(tmp_path):
    assert unfit(frozen(lane="jvm"), tmp_path) == []


@pytest.mark.parametrize("fitting", [frozen(lane="arrow"), with_lane(frozen(), "arrow")])
def test_records_of_the_arrow_lane_fit(fitting):
    assert unfit(fitting, S3) == []


@pytest.mark.parametrize("lane", ["jvm", None])
def test_records_of_the_jvm_lane_do_not_and_the_reason_for_that_lane_is_told(lane):
    (found,) = unfit(frozen(lane=lane), S3)
    assert found.what == "records"
    assert "Spark does not fence its commits on S3" in found.why
    assert ("the contract says so" if lane else "nothing was decided") in found.why
    assert "`lane: arrow`" in found.help


def test_an_output_that_keeps_state_fits_without_a_table_alone():
    kept = with_lane(frozen(stateful=True), "arrow")
    (found,) = unfit(kept, S3)
    assert found.what == "output copy"
    assert "leave `delta: copy` out" in found.help
    assert unfit(with_lane(frozen(stateful=True, to={"redis": "copy"}), "arrow"), S3) == []
