"""Files of the state as Spark 4.2 lays them out, for both of its providers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from spark_checkpoint import begin_query, state_file, summed

from headgate.checkpoints import checksums
from headgate.checkpoints.checksums import verify_checksum
from headgate.checkpoints.state_files import StateDamagedError, verify_state
from headgate.errors import RefusedError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    begin_query(tmp_path)
    return tmp_path / "state" / "0" / "0"


def test_the_newest_snapshot_and_what_follows_it_are_read_and_nothing_older(
    store: Path, tmp_path: Path
) -> None:
    state_file(store / "4.snapshot")
    state_file(store / "5.delta")
    state_file(store / "3.delta")
    (store / "3.delta").write_bytes(b"")
    verify_state(tmp_path, 4)
    verify_state(tmp_path, 3)
    with pytest.raises(StateDamagedError, match=r"3\.delta is empty"):
        verify_state(tmp_path, 2)
    with pytest.raises(StateDamagedError, match="0/0 lacks version 6, and the next batch loads version 6"):
        verify_state(tmp_path, 5)


def test_the_batch_under_way_may_have_left_anything(store: Path, tmp_path: Path) -> None:
    state_file(store / "1.delta")
    (store / "2.delta").write_bytes(b"half")
    (store / ".2.delta.5f0c.tmp").write_bytes(b"")
    verify_state(tmp_path, 0)


def test_a_join_keeps_several_stores_and_each_is_looked_at(store: Path, tmp_path: Path) -> None:
    names = ["left-keyToNumValues", "left-keyWithIndexToValue"]
    told = {"stateStoreInfo": [{"storeName": name, "numPartitions": 1} for name in names]}
    summed(tmp_path / "state/0/_metadata/metadata", b"v1\n" + json.dumps(told).encode())
    for name in names:
        state_file(store / name / "1.delta")
    verify_state(tmp_path, 0)
    (store / names[1] / "1.delta").unlink()
    with pytest.raises(StateDamagedError, match="left-keyWithIndexToValue lacks version 1"):
        verify_state(tmp_path, 0)


@pytest.mark.parametrize("keep", [0.9, 0.6, 0.3])
def test_without_a_checksum_a_cut_file_is_told_by_its_blocks(
    store: Path, tmp_path: Path, keep: float
) -> None:
    state_file(store / "1.delta", b"x" * 300)
    (store / ".1.delta.crc").unlink()
    verify_state(tmp_path, 0)
    data = (store / "1.delta").read_bytes()
    (store / "1.delta").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(StateDamagedError, match=r"1\.delta is cut"):
        verify_state(tmp_path, 0)
    verify_state(tmp_path, 0, codec="zstd")  # whose files nobody here can tell from cut ones


def test_what_was_written_over_is_told_by_its_first_block(store: Path, tmp_path: Path) -> None:
    (store / "1.delta").parent.mkdir(parents=True, exist_ok=True)
    (store / "1.delta").write_bytes(b"garbage" * 20)
    with pytest.raises(StateDamagedError, match="cut or overwritten at byte 0"):
        verify_state(tmp_path, 0)


def rocks(store: Path, version: int, tables: dict[str, int]) -> Path:
    """A full file of RocksDB with its tables."""
    store.mkdir(parents=True, exist_ok=True)
    told = {"sstFiles": [{"dfsSstFileName": name, "sizeBytes": size} for name, size in tables.items()]}
    path = store / f"{version}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata", "v1\n" + json.dumps(told))
        archive.writestr("MANIFEST-000005", "manifest" * 20)
    (store / "SSTs").mkdir(exist_ok=True)
    for name, size in tables.items():
        (store / "SSTs" / name).write_bytes(bytes(size))
    return path


def test_rocksdb_needs_its_archive_its_tables_and_the_changes_since(store: Path, tmp_path: Path) -> None:
    path = rocks(store, 2, {"000008-abc.sst": 100})
    state_file(store / "3.changelog")
    verify_state(tmp_path, 2)
    (store / "SSTs" / "000008-abc.sst").write_bytes(bytes(99))
    with pytest.raises(StateDamagedError, match=r"000008-abc.sst is missing or cut: 2.zip needs it"):
        verify_state(tmp_path, 2)
    rocks(store, 2, {})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(StateDamagedError, match=r"2\.zip is not a whole archive"):
        verify_state(tmp_path, 1)
    rocks(store, 2, {})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"manifestmanifest", b"manifestManifest", 1))
    with pytest.raises(StateDamagedError, match=r"its member MANIFEST-000005"):
        verify_state(tmp_path, 1)


def test_a_damaged_snapshot_is_passed_over_where_every_delta_since_an_older_one_is_there(
    store: Path, tmp_path: Path
) -> None:
    """Spark 4.2 does so by itself, and counts on exactly; without its delta it does not."""
    state_file(store / "2.snapshot")
    for version in (3, 4):
        state_file(store / f"{version}.delta")
    (store / "4.snapshot").write_bytes(b"half")
    verify_state(tmp_path, 3)
    (store / "3.delta").unlink()
    with pytest.raises(StateDamagedError, match=r"4\.snapshot is cut"):
        verify_state(tmp_path, 3)


def test_a_damaged_archive_is_passed_over_where_every_change_since_an_older_one_is_there(
    store: Path, tmp_path: Path
) -> None:
    """Spark 4.2 does so by itself: seen with an archive that was cut, emptied and overwritten."""
    rocks(store, 2, {})
    for version in (3, 4):
        state_file(store / f"{version}.changelog")
    rocks(store, 4, {}).write_bytes(b"")
    verify_state(tmp_path, 3)
    (store / "3.changelog").unlink()
    with pytest.raises(StateDamagedError, match=r"4\.zip is empty"):
        verify_state(tmp_path, 3)


def test_a_schema_that_is_not_what_was_written_is_told_and_a_missing_one_is_written_anew(
    store: Path, tmp_path: Path
) -> None:
    state_file(store / "1.delta")
    verify_state(tmp_path, 0)
    summed(store / "_metadata" / "schema", b"v3 and the columns")
    verify_state(tmp_path, 0)
    (store / "_metadata" / "schema").write_bytes(b"v3 and the COLUMNS")
    with pytest.raises(StateDamagedError, match="schema does not match its checksum"):
        verify_state(tmp_path, 0)


def test_a_file_beyond_the_bound_is_compared_by_its_length_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1.snapshot"
    summed(path, b"y" * 2000)
    monkeypatch.setattr(checksums, "_SUMMED_BYTES", 1000)
    path.write_bytes(b"z" * 2000)
    verify_checksum(path)
    path.write_bytes(b"z" * 1400)
    with pytest.raises(RefusedError, match="1400 bytes"):
        verify_checksum(path)


@pytest.mark.parametrize("sums", [b"", b"crc", b"crc\0\0\0\2", b"no checksums at all."])
def test_what_hadoop_takes_for_no_checksum_is_none(tmp_path: Path, sums: bytes) -> None:
    path = tmp_path / "0"
    path.write_bytes(b"data")
    (tmp_path / ".0.crc").write_bytes(sums)
    verify_checksum(path)
