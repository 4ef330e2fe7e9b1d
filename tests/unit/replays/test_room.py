from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deltalake import DeltaTable
from replay_world import ReplayWorld, make_world

from headgate.checkpoints.books import Totals, write_page
from headgate.checkpoints.layout import CheckpointLayout
from headgate.replays import room

MB = 1024 * 1024


@pytest.fixture
def world(tmp_path: Path) -> ReplayWorld:
    return make_world(tmp_path)


@pytest.fixture
def books(world: ReplayWorld) -> Callable[[int], None]:
    layout = CheckpointLayout(world.settings.checkpoints, "shop")

    def keep(read: int) -> None:
        write_page(layout.books(world.lineage), 0, Totals(read=read, good=read))

    return keep


def _disk(monkeypatch: pytest.MonkeyPatch, free: int) -> list[Path]:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(room.shutil, "disk_usage", usage)
    return asked


def _sizes(world: ReplayWorld) -> int:
    tables = [path.parent for path in world.settings.tables.glob("*/*/_delta_log")]
    return sum(Path(path).stat().st_size for table in tables for path in DeltaTable(table).file_uris())


def test_the_size_of_a_record_is_what_the_live_tables_hold_for_it(
    world: ReplayWorld, books: Callable[[int], None]
) -> None:
    books(100)
    assert room.bytes_per_record(world.settings, world.frozen) == _sizes(world) / 100 > 0


def test_before_the_first_batch_nobody_knows(world: ReplayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    _disk(monkeypatch, 0)
    assert room.bytes_per_record(world.settings, world.frozen) is None
    assert room.room_problems(world.settings, world.frozen, 10**9, world.own.folder) == []


def test_a_replay_that_the_disk_has_no_room_for_is_a_problem_that_says_how_much_is_lacking(
    world: ReplayWorld, books: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    books(100)
    asked = _disk(monkeypatch, 600 * MB)
    assert room.room_problems(world.settings, world.frozen, 60, world.own.folder) == []
    (told,) = room.room_problems(world.settings, world.frozen, 10**8, world.own.folder / "not" / "there")
    assert "100000000 records would need about" in told
    assert "600 MB are free" in told
    assert all(path.is_dir() for path in asked)
