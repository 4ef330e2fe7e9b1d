"""What becomes of a store's refusals: which error is told, and what is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headgate.arrow.files import TableFiles, require
from headgate.errors import HeadgateError, TablesUnavailable
from headgate.streams.model import FailureClass
from headgate.tables import files as module
from headgate.tables.answers import StoreDenied
from headgate.tables.files import files_in, open_input, remove, size_of, sizes_of
from headgate.tables.place import S3Folder
from spark.failure import failure_of

SCHEMA = pa.schema([("n", pa.int64())])
ROWS = pa.table({"n": pa.array([1, 2], pa.int64())})
# Not one that the client tries again by itself, which takes minutes.
AWAY = 400


def puts_of_parquet(status: int) -> Callable[[str, str], int | None]:
    return lambda method, key: status if method in ("PUT", "POST") and key.endswith(".parquet") else None


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (AWAY, TablesUnavailable, FailureClass.DEPENDENCY),
        (403, StoreDenied, FailureClass.DETERMINISTIC),
    ],
)
def test_an_upload_that_is_refused_is_told_as_what_the_store_said_and_leaves_nothing(
    store, status, error, kind, caplog
):
    answers, folder = store
    answers.refuses = puts_of_parquet(status)
    files = TableFiles(folder, SCHEMA)
    files.write(ROWS)
    with pytest.raises(error, match=rf"s3://lake/tables/part-.*{status}") as caught:
        files.close()
    assert failure_of(caught.value).failure_class == kind.value
    asked = list(answers.asked)
    files.abandon()
    assert answers.asked == asked, "what was never there is neither put nor deleted"
    assert answers.objects == {}
    assert caplog.records == []


def test_what_is_abandoned_on_a_store_is_never_put(store):
    answers, folder = store
    files = TableFiles(folder, SCHEMA)
    files.write(ROWS)
    files._flush()
    files.abandon()
    del files
    assert (answers.asked, answers.objects) == ([], {})


def test_a_store_that_refuses_to_remove_does_not_hide_what_failed_before(store, caplog):
    answers, folder = store
    files = TableFiles(folder, SCHEMA)
    files.write(ROWS)
    (file,) = files.close()
    answers.refuses = lambda method, _: 403 if method == "DELETE" else None
    files.abandon()
    assert "could not be removed: s3://lake/tables: the store does not let us" in caplog.text
    assert list(answers.objects) == [f"tables/{file.path}"]


def test_a_file_that_the_store_stops_to_read_is_told_as_such(store):
    answers, folder = store
    files = TableFiles(folder, SCHEMA)
    files.write(ROWS)
    (file,) = files.close()
    with open_input(folder / file.path) as content:
        answers.refuses = lambda method, _: AWAY if method == "GET" else None
        with pytest.raises(TablesUnavailable, match=file.path):
            pq.ParquetFile(content)


def test_the_size_of_what_was_uploaded_is_known_without_another_request(store):
    answers, folder = store
    files = TableFiles(folder, SCHEMA)
    files.write(ROWS)
    (file,) = files.close()
    assert answers.asked == [("PUT", f"tables/{file.path}")]
    assert file.size == len(answers.objects[f"tables/{file.path}"])


def test_a_store_is_asked_for_several_files_at_once(store, monkeypatch):
    _, folder = store
    together = threading.Barrier(2, timeout=60)

    def met(file: S3Folder) -> int:
        together.wait()
        return int(file.name)

    monkeypatch.setattr(module, "size_of", met)
    assert sizes_of(folder, ["3", "1", "2", "4"]) == [3, 1, 2, 4]


@pytest.mark.parametrize(("left", "found"), [(None, "no such file"), (b"cut", "3 bytes")])
def test_what_the_store_does_not_have_as_it_was_written_is_not_committed(store, left, found):
    answers, folder = store
    written = []
    for _ in range(3):
        files = TableFiles(folder, SCHEMA)
        files.write(ROWS)
        written += files.close()
    require(folder, written)
    key = f"tables/{written[1].path}"
    del answers.objects[key]
    if left is not None:
        answers.objects[key] = left
    with pytest.raises(HeadgateError, match=rf"{written[1].path} .*finds {found}: nothing was committed"):
        require(folder, written)


def test_what_is_asked_without_the_right_to_is_no_store_that_is_away(store):
    answers, folder = store
    answers.refuses = lambda *_: 403
    for ask in (
        lambda: size_of(folder / "a"),
        lambda: files_in(folder, "*"),
        lambda: remove(folder, ["a"]),
        lambda: open_input(folder / "a"),
    ):
        with pytest.raises(StoreDenied, match="does not let us"):
            ask()
