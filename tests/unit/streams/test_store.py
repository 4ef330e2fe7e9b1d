from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from store_contract import StoreContract

from headgate.errors import SettingsError, StoreUnavailable
from headgate.streams.engine import make_engine
from headgate.streams.store import StateStore


class TestStateStoreOnSqlite(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/deep/headgate.db"


def test_a_store_that_cannot_be_reached_says_so_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "headgate.db").mkdir()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        StateStore(f"sqlite:///{tmp_path}/headgate.db")


def test_a_fresh_store_that_another_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses the switch to the write-ahead log at once while somebody else begins to write."""
    path = tmp_path / "headgate.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    release.start()
    try:
        StateStore(f"sqlite:///{path}").close()
    finally:
        release.join()
        other.close()


def test_an_address_that_names_no_store_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match=r"store\.url"):
        make_engine("no such thing")
