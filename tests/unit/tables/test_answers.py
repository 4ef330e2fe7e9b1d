"""What becomes of a store's refusals: which error is told, and what is left behind."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headgate.arrow.files import TableFiles, require
from headgate.errors import HeadgateError, TablesUnavailable
from headgate.streams.model import FailureClass
from headgate.tables import files as module
from headgate.tables.answers import StoreDenied
from headgate.tables.files import (
    files_in,
    make_folder,
    open_input,
    open_output,
    read_text,
    remove,
    size_of,
    sizes_of,
)
from headgate.tables.place import S3Folder
from spark.failure import failure_of

SCHEMA = pa.schema([("n", pa.int64())])
ROWS = pa.table({"n": pa.array([1, 2], pa.int64())})
LARGE = os.urandom(12 * 1024 * 1024)  # more than the client holds back: it sends the file in parts
SESSION = "FwoGZXIvYXdzEXAMPLE/+token=="
# As AWS answers, with what it was asked.
MISMATCH = f"""<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><Token-0>{SESSION}</Token-0>
<CanonicalRequest>GET
/lake/tables/a
x-amz-date:20250101T000000Z
x-amz-security-token:{SESSION}

host;x-amz-date</CanonicalRequest><CanonicalRequestBytes>{SESSION.encode().hex(" ")}</CanonicalRequestBytes>
</Error>""".encode()
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


def test_a_large_file_goes_in_parts_and_is_there_whole_when_it_is_closed(store):
    answers, folder = store
    output = open_output(folder / "a")
    output.write(LARGE)
    assert answers.objects == {}
    output.close()
    assert (answers.objects, answers.uploads) == ({"tables/a": LARGE}, {})


def test_an_upload_whose_last_answer_was_lost_is_a_store_that_was_away(store):
    """The client asks again by itself, and by then the store knows no such upload."""
    answers, folder = store
    answers.loses = lambda method, _: method == "POST"
    output = open_output(folder / "a")
    output.write(LARGE)
    with pytest.raises(TablesUnavailable, match="NoSuchUpload") as caught:
        output.close()
    assert failure_of(caught.value).failure_class == FailureClass.DEPENDENCY.value


def test_an_upload_that_the_store_has_ended_meanwhile_is_a_store_that_was_away(store):
    answers, folder = store
    answers.refuses = lambda method, _: 404 if method == "PUT" else None
    output = open_output(folder / "a")
    with pytest.raises(TablesUnavailable, match="404"):
        for _ in range(3):
            output.write(LARGE)


@pytest.mark.parametrize(("status", "error"), [(AWAY, TablesUnavailable), (403, StoreDenied)])
def test_a_token_that_the_store_repeats_is_told_to_nobody(store, status, error):
    answers, folder = store
    answers.refuses, answers.says = lambda *_: status, MISMATCH
    with pytest.raises(error, match=r"SignatureDoesNotMatch.*<Token-0>…<") as caught:
        read_text(folder / "a")
    shown = "".join(traceback.format_exception(caught.value))
    assert SESSION not in shown
    assert SESSION.encode().hex(" ") not in shown


def test_what_is_told_of_a_failure_shows_no_token_either():
    found = failure_of(OSError(f"Generic S3 error: 400 Bad Request: {MISMATCH.decode()}"))
    assert found.failure_class == FailureClass.DEPENDENCY.value
    assert "x-amz-security-token:…" in found.message
    assert SESSION not in found.message
    assert SESSION.encode().hex(" ") not in found.message


def test_below_what_is_not_there_no_folder_is_made_unless_it_is_to_be(tmp_path):
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "t" / "_doubtful")
    make_folder(tmp_path / "t", parents=True)
    for _ in range(2):
        make_folder(tmp_path / "t" / "_doubtful")
