"""What becomes of a store's refusals: which error is told, and what is left behind."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headgate.arrow.files import TableFiles
from headgate.errors import TablesUnavailable
from headgate.streams.model import FailureClass
from headgate.tables.answers import StoreDenied
from headgate.tables.files import files_in, open_input, remove, size_of
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
