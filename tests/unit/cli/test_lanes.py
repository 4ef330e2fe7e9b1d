"""What `headgate plan` tells of lanes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headgate.arrow.choice import LaneChoice
from headgate.cli.planning import _show_lanes


def test_the_lanes_of_new_and_changed_contracts_are_told_with_their_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan: Any = SimpleNamespace(changes={"one": "new", "two": "unchanged", "three": "changed"})
    arrow = LaneChoice("arrow", "the contract asks for it")
    _show_lanes(plan, {name: {"rows": arrow} for name in ("one", "two", "three")})
    assert capsys.readouterr().out.splitlines() == [
        "· output one/rows: lane arrow: the contract asks for it",
        "· output three/rows: lane arrow: the contract asks for it",
    ]


def test_a_pipeline_of_windows_alone_is_told_how_its_records_are_screened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan: Any = SimpleNamespace(changes={"one": "new"})
    chosen = {"records": LaneChoice("arrow", "it gives the same"), "out": LaneChoice("jvm", "state")}
    _show_lanes(plan, {"one": chosen})
    assert capsys.readouterr().out.splitlines() == [
        "· query one/records: lane arrow: it gives the same",
        "· output one/out: lane jvm: state",
    ]
