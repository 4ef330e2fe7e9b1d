from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.errors import ServiceError, UnavailableError
from producers import segments
from producers import spool as spools
from producers.records import MAGIC, Damage, Framed, Record, frame, frames
from producers.segments import Handed
from producers.spool import Spool, SpoolFullError
from tests.helpers.full_disk import Disk


def record(number: int, size: int = 0) -> Record:
    return Record(b"%d" % number + b"." * size, None, 1_700_000_000_000 + number, (("headgate.id", b"x"),))


def numbers(spool: Spool) -> list[int]:
    found = []
    while (handed := spool.take()) is not None:
        found.append(int(handed.record.value.split(b".")[0]))
    return found


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: Path, said: list[str]) -> Callable[..., Spool]:
    def make(**options: int) -> Spool:
        return Spool(tmp_path / "spool", report=said.append, **options)

    return make


def test_records_come_back_in_order_and_as_they_were(opened: Callable[..., Spool]) -> None:
    records = [
        Record(b"", None, 0),
        Record(b"\xff\x00\n", b"", -5, (("a", b"\xfe"), ("b", b""))),
        Record(b"v" * 100_000, b"key", 2**60),
    ]
    with opened() as spool:
        spool.append(records)
        taken = [spool.take(), spool.take(), spool.take()]
        assert [handed.record for handed in taken if handed] == records
        assert spool.take() is None


def test_what_is_not_acknowledged_is_there_after_a_new_start(opened: Callable[..., Spool]) -> None:
    with opened(segment_bytes=200) as spool:
        spool.append(record(number) for number in range(50))
        for _ in range(20):
            handed = spool.take()
            assert handed is not None
            spool.acknowledge(handed)
    with opened(segment_bytes=200) as spool:
        assert spool.records == 30
        assert numbers(spool) == list(range(20, 50))


def test_acknowledged_files_are_removed_and_the_folder_with_the_last(
    opened: Callable[..., Spool], tmp_path: Path
) -> None:
    with opened(segment_bytes=200) as spool:
        spool.append(record(number) for number in range(50))
        while (handed := spool.take()) is not None:
            spool.acknowledge(handed)
        assert (spool.records, spool.bytes) == (0, 0)
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["lock"]


def test_folders_of_owners_that_are_gone_come_first_and_in_their_order(opened: Callable[..., Spool]) -> None:
    with opened() as first:
        first.append([record(0), record(1)])
    with opened() as second:
        second.append([record(2)])
    with opened() as third:
        third.append([record(3)])
        assert numbers(third) == [0, 1, 2, 3]


def test_a_living_owners_folder_is_left_alone(opened: Callable[..., Spool]) -> None:
    with opened() as first:
        first.append([record(0)])
        with opened() as second:
            assert second.records == 0
        assert numbers(first) == [0]


def test_records_appended_while_reading_follow(opened: Callable[..., Spool]) -> None:
    with opened() as spool:
        spool.append([record(0), record(1)])
        assert spool.take() is not None
        spool.append([record(2)])
        assert numbers(spool) == [1, 2]


def test_rewinding_leaves_out_what_has_arrived(opened: Callable[..., Spool]) -> None:
    with opened() as spool:
        spool.append(record(number) for number in range(4))
        taken = [handed for _ in range(3) if (handed := spool.take())]
        spool.acknowledge(taken[1])
        spool.rewind()
        assert spool.unread == 4
        assert numbers(spool) == [0, 2, 3]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_end_is_reported_and_costs_only_the_torn_record(
    opened: Callable[..., Spool], tmp_path: Path, said: list[str], cut: int
) -> None:
    with opened() as spool:
        spool.append([record(0), record(1)])
    (file,) = (tmp_path / "spool").rglob("*.seg")
    file.write_bytes(file.read_bytes()[:-cut])
    with opened() as spool:
        assert numbers(spool) == [0]
        assert len(said) == 1
        assert "ends in the middle of a record" in said[0]


def test_damage_inside_is_reported_and_the_file_is_kept(
    opened: Callable[..., Spool], tmp_path: Path, said: list[str]
) -> None:
    with opened() as spool:
        spool.append([record(0), record(1), record(2)])
    (file,) = (tmp_path / "spool").rglob("*.seg")
    content = bytearray(file.read_bytes())
    content[len(MAGIC) + len(frame(record(0))) + 12] ^= 0xFF
    file.write_bytes(content)
    with opened() as spool:
        handed = spool.take()
        assert handed is not None
        spool.acknowledge(handed)
        assert spool.take() is None
    assert "is damaged" in said[0]
    assert file.with_suffix(".damaged").read_bytes() == bytes(content)
    with opened() as spool:
        assert spool.records == 0


def test_a_full_spool_says_so_and_keeps_what_it_has(opened: Callable[..., Spool]) -> None:
    with opened(limit_bytes=1000) as spool:
        with pytest.raises(SpoolFullError, match="is full") as caught:
            spool.append(record(number, 50) for number in range(100))
        assert caught.value.exit_code == 69
        kept = spool.records
        assert kept == len(numbers(spool)) < 100
        spool.append([record(7)], beyond_limit=True)
        assert numbers(spool) == [7]


def test_refused_records_are_kept_with_their_reason_and_not_sent_again(
    opened: Callable[..., Spool], tmp_path: Path
) -> None:
    with opened() as spool:
        path = spool.refuse(record(1), "too large")
        spool.refuse(record(2), "too large")
        assert spool.take() is None
    kept = [item.record for item in frames(memoryview(path.read_bytes()), 0) if isinstance(item, Framed)]
    assert [item.value for item in kept] == [b"1", b"2"]
    assert kept[0].headers[-1] == ("headgate.refused", b"too large")
    with opened() as spool:
        assert spool.records == 0
    assert path.is_file()


@given(content=st.binary(max_size=200), position=st.integers(0, 400))
def test_any_bytes_at_the_end_are_damage_and_never_an_error(content: bytes, position: int) -> None:
    whole = MAGIC + frame(record(1)) + content
    items = list(frames(memoryview(whole[:position]), 0))
    assert all(isinstance(item, Framed) for item in items[:-1])
    assert sum(isinstance(item, Damage) for item in items) <= 1


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_no_record_is_lost_and_none_arrives_twice_in_one_life(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("spool")
    said: list[str] = []
    written = 0
    arrived: list[int] = []
    spool = Spool(folder, segment_bytes=150, report=said.append)
    flying: list[Handed] = []
    for _ in range(120):
        step = chance.random()
        if step < 0.4:
            count = chance.randint(1, 5)
            spool.append(record(written + index) for index in range(count))
            written += count
        elif step < 0.7:
            if (handed := spool.take()) is not None:
                flying.append(handed)
        elif step < 0.9 and flying:
            handed = flying.pop(chance.randrange(len(flying)))
            arrived.append(int(handed.record.value))
            spool.acknowledge(handed)
        elif step < 0.97:
            spool.rewind()
            flying.clear()
        elif spool.records == written - len(arrived):  # a restart knows of arrivals in order only
            flying.clear()
            spool.close()
            spool = Spool(folder, segment_bytes=150, report=said.append)
    spool.rewind()
    assert sorted([*arrived, *numbers(spool)]) == list(range(written))
    spool.close()
    assert said == []


# -- a disk that has no room -----------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(segments, "FileIO", disk.opened)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk


@pytest.mark.parametrize("room", range(0, 90, 7))
def test_a_disk_that_is_full_inside_a_record_costs_no_record_that_was_taken(
    opened: Callable[..., Spool], disk: Disk, said: list[str], room: int
) -> None:
    with opened() as spool:
        spool.append([record(0), record(1)])
        disk.room = room
        with pytest.raises(SpoolFullError, match="is full: 2 records"):
            spool.append([record(2, 200)])
        disk.room = None
        spool.append([record(3), record(4)])
        assert numbers(spool) == [0, 1, 3, 4]
    with opened() as spool:
        assert numbers(spool) == [0, 1, 3, 4]
    assert said == []


@pytest.mark.parametrize("room", [0, 5])
def test_a_disk_without_room_for_a_new_file_is_a_full_spool_and_leaves_no_file(
    opened: Callable[..., Spool], disk: Disk, said: list[str], room: int
) -> None:
    disk.room = room
    with opened() as spool:
        with pytest.raises(SpoolFullError, match="is full"):
            spool.append([record(0)])
        assert not list(spool.folder.rglob("*.seg"))
        disk.room = None
        spool.append([record(1)])
        assert numbers(spool) == [1]
    assert said == []


def test_a_record_that_could_not_be_cut_off_again_ends_its_file(
    opened: Callable[..., Spool], disk: Disk, said: list[str]
) -> None:
    with opened() as spool:
        spool.append([record(0)])
        disk.room, disk.cuts = 10, False
        with pytest.raises(SpoolFullError):
            spool.append([record(1)])
        disk.room, disk.cuts = None, True
        spool.append([record(2)])
        assert numbers(spool) == [0, 2]
    with opened() as spool:
        assert numbers(spool) == [0, 2]
    assert len(said) == 1
    assert "ends in the middle of a record" in said[0]


def test_a_disk_that_cannot_be_synced_is_a_full_spool_and_the_next_record_has_a_new_file(
    opened: Callable[..., Spool], disk: Disk
) -> None:
    with opened() as spool:
        spool.append([record(0)])
        disk.syncs = False
        with pytest.raises(SpoolFullError, match="is full") as caught:
            spool.sync()
        assert "Input/output error" in str(caught.value)
        disk.syncs = True
        spool.append([record(1)])
        spool.sync()
        assert len(list(spool.folder.rglob("*.seg"))) == 2
        assert numbers(spool) == [0, 1]


def test_a_refused_record_that_does_not_fit_leaves_the_others_readable(
    opened: Callable[..., Spool], disk: Disk
) -> None:
    with opened() as spool:
        path = spool.refuse(record(1), "too large")
        disk.room = 20
        with pytest.raises(SpoolFullError):
            spool.refuse(record(2), "too large")
        disk.room = None
        spool.refuse(record(3), "too large")
    items = list(frames(memoryview(path.read_bytes()), 0))
    assert [item.record.value for item in items if isinstance(item, Framed)] == [b"1", b"3"]


def test_a_spool_on_a_full_disk_can_be_sent_and_says_that_records_can_repeat(
    opened: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    with opened() as spool:
        spool.append(record(number) for number in range(1500))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(spools, "own_folder", full)
    with opened() as spool:
        for _ in range(1200):
            handed = spool.take()
            assert handed is not None
            spool.acknowledge(handed)
        assert spool.records == 300
    assert len(said) == 1
    assert "can be sent again" in said[0]


def test_a_folder_that_cannot_be_written_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="file/spool cannot be used: Not a directory"):
        Spool(tmp_path / "file" / "spool", report=print)


def test_files_that_change_under_the_producer_are_told_and_no_traceback(opened: Callable[..., Spool]) -> None:
    with opened() as spool:
        spool.append([record(0)])
        spool.sync()
        (file,) = spool.folder.rglob("*.seg")
        file.write_bytes(MAGIC)
        with pytest.raises(ServiceError, match="1 records cannot be read"):
            spool.take()
