"""docs/fault-matrix.md against the tests and alerts that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitoring.alerts import ALERTS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "fault-matrix.md").read_text(encoding="utf-8")
ROWS = {
    int(match[1]): [cell.strip() for cell in match[0].strip("| \n").split(" | ")]
    for match in re.finditer(r"^\| (\d+) \|.*\|$", PAGE, re.MULTILINE)
}
_NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def _tests() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        names = re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        found.setdefault(path.name, set()).update(names)
    return found


def test_every_row_of_the_matrix_is_there_in_order() -> None:
    assert list(ROWS) == list(range(1, 28))
    assert all(len(cells) == 5 for cells in ROWS.values())


@pytest.mark.parametrize("number", range(1, 28))
def test_a_row_names_tests_that_exist_or_says_that_it_is_not_covered(number: int) -> None:
    _, _, happens, proved, _ = ROWS[number]
    named = _NAMED.findall(proved)
    assert named or "**Not covered" in happens + proved
    tests = _tests()
    for file, name in named:
        assert name in tests.get(file, set()), f"row {number}: {file}::{name} does not exist"


def test_a_test_that_is_named_after_a_row_stands_in_that_row() -> None:
    for names in _tests().values():
        for name in names:
            for number in re.findall(r"\d+", (re.match(r"test_row_((?:\d+_(?:and_)?)+)", name) or [""])[0]):
                assert name in ROWS[int(number)][3], f"{name} is not in row {number}"


@pytest.mark.parametrize("number", range(1, 28))
def test_the_alerts_of_a_row_exist_with_their_runbooks(number: int) -> None:
    known = {alert.name for alert in ALERTS}
    for name in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b", ROWS[number][4]):
        assert name in known, f"row {number}: no alert {name}"
        assert (ROOT / "docs" / "runbooks" / f"{name}.md").is_file()


def test_what_the_page_says_of_the_local_disk_names_the_three_layers() -> None:
    section = PAGE[PAGE.index("## What a local disk cannot promise") :]
    assert all(f"({layer})" in section for layer in "abc")
