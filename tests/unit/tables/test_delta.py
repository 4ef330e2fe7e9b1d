"""What is told of a table where its store, or the way to it, is not what it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError, TableNotFoundError

from headgate.errors import SettingsError, TablesUnavailable
from headgate.local.ports import free_port
from headgate.tables.access import S3Access
from headgate.tables.answers import StoreDenied
from headgate.tables.delta import answered_to_delta, is_table, open_table
from headgate.tables.place import S3Folder
from headgate.topics import lake
from headgate.topics.differences import Action
from headgate.topics.live import read_table


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Folder:
    """A table in a store that does not run, and that is asked once."""
    common = S3Access._common
    monkeypatch.setattr(S3Access, "_common", lambda access: {**common(access), "max_retries": "0"})
    monkeypatch.setenv("LAKE_KEY", "AKIAOFATEST")
    monkeypatch.setenv("LAKE_SECRET", "a-secret")
    url = f"http://127.0.0.1:{free_port()}"
    access = S3Access("us-east-1", tmp_path, url, "env:LAKE_KEY", "env:LAKE_SECRET")
    return S3Folder(access, "lake", "p/t")


@pytest.mark.parametrize("ask", [is_table, open_table, read_table])
def test_a_store_that_is_away_is_told_with_its_cause_in_one_line(away, ask):
    with pytest.raises(
        TablesUnavailable, match=r"s3://lake/p/t cannot be reached: .*[Cc]onnection refused"
    ) as caught:
        ask(away)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in caught.value.message


def test_a_credential_that_is_not_there_is_no_damage_of_the_table(away, monkeypatch):
    monkeypatch.delenv("LAKE_KEY")
    with pytest.raises(SettingsError, match="no variable LAKE_KEY"):
        read_table(away)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DeltaError("Generic S3 error: Error performing GET x: 503 Service Unavailable"), TablesUnavailable),
        (OSError("Error performing GET x: 403 Forbidden"), StoreDenied),
        (DeltaError("Invalid JSON in log record"), DeltaError),
        (TableNotFoundError("no log files"), TableNotFoundError),
        (FileNotFoundError("gone"), FileNotFoundError),
    ],
)
def test_what_deltalake_says_of_the_store_is_told_apart_from_what_it_says_of_the_log(away, error, told):
    with pytest.raises(told) as caught, answered_to_delta(away):
        raise error
    assert (caught.value is error) == (told is type(error))


def test_what_deltalake_says_of_a_disk_goes_on_as_it_is(tmp_path):
    error = OSError("Generic S3 error")
    with pytest.raises(OSError, match="Generic") as caught, answered_to_delta(tmp_path):
        raise error
    assert caught.value is error


def test_a_store_that_stops_while_a_table_is_made_is_told_as_such(away, monkeypatch):
    def stopped(*_: object) -> None:
        raise DeltaError("Generic S3 error: Error performing PUT http://store/lake: 503 Slow Down")

    monkeypatch.setattr(lake, "_create", stopped)
    action = Action("create_table", "table p.t", "p", "create it", "it is not there", {"table": "t"})
    with pytest.raises(TablesUnavailable, match="503 Slow Down"):
        lake.carry_out_table(away, action)
