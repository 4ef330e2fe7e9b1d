"""What the doors to rows tell of a store that stops in the middle of reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from s3_answers import s3_answers

from headgate.delta_rows import reading
from headgate.errors import HeadgateError, TablesUnavailable
from headgate.quality import audit, check, quarantine
from headgate.tables.access import S3Access
from headgate.tables.answers import StoreDenied
from headgate.tables.place import Place, S3Folder
from serving import tail

AWAY = OSError(
    "When reading information for key 'a' in bucket 'lake': AWS Error NETWORK_CONNECTION during HeadObject "
    "operation: curlCode: 7, Could not connect to server"
)
SCHEMA = pa.schema([("n", pa.int64())])


@pytest.mark.parametrize(
    ("status", "told"),
    [(400, TablesUnavailable), (401, StoreDenied), (403, StoreDenied), (404, FileNotFoundError)],
)
def test_what_a_store_answers_to_arrow_is_told_as_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, told: type[Exception]
) -> None:
    monkeypatch.setenv("LAKE_KEY", "AKIAOFATEST")
    monkeypatch.setenv("LAKE_SECRET", "a-secret")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a")
    with s3_answers(tmp_path) as (answers, folder):
        answers.objects["tables/a"] = (tmp_path / "a").read_bytes()
        answers.refuses = lambda method, key: status if (method, key) == ("GET", "tables/a") else None
        files = folder.access.for_arrow()
        fragment = ds.ParquetFileFormat().make_fragment("lake/tables/a", files)
        rows = ds.FileSystemDataset([fragment], SCHEMA, ds.ParquetFileFormat(), files)
        with pytest.raises(told, match="AWS Error"), reading(folder):
            rows.to_table()


def test_what_is_wrong_with_a_file_or_a_disk_goes_on_as_it_is(tmp_path: Path) -> None:
    on_s3 = S3Folder(S3Access("us-east-1", tmp_path), "lake")
    cut = OSError("Couldn't deserialize thrift: TProtocolException: Invalid data")
    known = TablesUnavailable(str(AWAY))
    places: list[tuple[Place | None, OSError]] = [
        (on_s3, cut),
        (on_s3, known),
        (tmp_path, AWAY),
        (None, AWAY),
    ]
    for place, error in places:
        with pytest.raises(OSError, match=r"AWS Error|thrift") as caught, reading(place):
            raise error
        assert caught.value is error


def _check(at: S3Folder) -> Any:
    frozen: Any = SimpleNamespace(pipeline="p", outputs={"o": SimpleNamespace(event_time="n")})
    return check._read(SimpleNamespace(), frozen, "o", ())  # type: ignore[arg-type]


def _between(at: S3Folder) -> Any:
    return audit._quarantined_between(_settings(at), "p", "l", {("t", 0): (0, 1)})


def _settings(at: S3Folder) -> Any:
    return SimpleNamespace(tables=at)


@pytest.mark.parametrize(
    "door",
    [
        _check,
        _between,
        lambda at: audit._quarantine_rows(_settings(at), "p", "l", 0),
        lambda at: audit._sum(Mock(), at, "n"),
        lambda at: quarantine.newest_quarantined(_settings(at), "p", limit=1),
        lambda at: tail.new_rows(tail.open_table(at), None, at),
    ],
    ids=["check", "audit of ranges", "audit", "audit of an output", "quarantine", "tail"],
)
def test_a_store_that_stops_in_the_middle_is_told_at_each_door_that_reads_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Callable[[S3Folder], Any]
) -> None:
    write_deltalake(tmp_path / "t", pa.table({"n": [1]}))
    rows = Mock(**{f"{step}.side_effect": AWAY for step in ("to_table", "count_rows", "get_fragments")})
    files = Mock(**{"get_file_info.side_effect": AWAY})
    at = S3Folder(S3Access("us-east-1", tmp_path), "lake", "t")
    for module in (check, audit, quarantine):
        monkeypatch.setattr(module, "delta_rows", lambda *_: rows)
    for opener in (check, audit, quarantine, tail):
        monkeypatch.setattr(opener, "open_table", lambda *_: DeltaTable(tmp_path / "t"))
    monkeypatch.setattr(check, "_table_of", lambda *_: at)
    monkeypatch.setattr(tail, "table_files", lambda *_: files)
    with pytest.raises(TablesUnavailable, match="NETWORK_CONNECTION") as caught:
        door(at)
    assert isinstance(caught.value, HeadgateError)
