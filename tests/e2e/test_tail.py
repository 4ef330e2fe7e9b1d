from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from headgate.contract.frozen import ContractStore, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.errors import NotFoundError
from headgate.settings import RootsSettings, Settings
from serving.results import ResultRow, ResultStore
from serving.tail import Line, TailedOutput, new_rows, tail, tailed_output

CONTRACT = Contract.model_validate(
    {
        "headgate": 1,
        "pipeline": "tail-e2e",
        "version": 1,
        "owner": "tests",
        "sources": {"lines": {"topic": "t"}},
        "outputs": {
            "raw": {"sql": "SELECT 1", "to": [{"delta": "raw"}]},
            "one": {"sql": "SELECT 1", "to": [{"delta": "one"}, {"redis": "latest_tail_e2e"}]},
        },
    }
)
FROZEN = freeze(
    CONTRACT,
    topics={"lines": "t"},
    replication=1,
    outputs={name: ResolvedOutput(False, {"fields": []}) for name in ("raw", "one")},
    env="local",
    headgate_version="0",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, roots=RootsSettings(state=str(tmp_path)))


def test_by_default_the_first_output_in_redis_is_followed(settings: Settings) -> None:
    assert tailed_output(settings, FROZEN, None) == TailedOutput("tail-e2e", "one", None)
    assert tailed_output(settings, FROZEN, "raw").table == settings.tables / "tail-e2e" / "raw"
    with pytest.raises(NotFoundError, match="no output 'other'"):
        tailed_output(settings, FROZEN, "other")


def table(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


def test_an_upsert_shows_only_the_rows_that_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_deltalake(path, table(key=["a", "b", "c"], value=[1, 2, 3]))
    before = DeltaTable(path)
    merge = DeltaTable(path).merge(
        table(key=["b", "d"], value=[20, 4]), "s.key = t.key", source_alias="s", target_alias="t"
    )
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    rows = sorted(new_rows(DeltaTable(path), before), key=lambda row: str(row["key"]))
    assert rows == [{"key": "b", "value": 20}, {"key": "d", "value": 4}]


def test_partition_columns_are_part_of_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_deltalake(path, table(day=["2023-10-01 00:00"], value=[1]), partition_by=["day"])
    before = DeltaTable(path)
    write_deltalake(path, table(day=["2023-10-02 12:30"], value=[2]), mode="append")
    assert new_rows(DeltaTable(path), before) == [{"value": 2, "day": "2023-10-02 12:30"}]


def _take(lines: Iterator[Line], count: int) -> list[Line]:
    return [next(lines) for _ in range(count)]


def test_rows_of_a_delta_table_are_shown_as_its_versions_come(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "tables" / "tail-e2e" / "raw"
    said: list[str] = []
    lines = tail(settings, TailedOutput("tail-e2e", "raw", path), last=2, say=said.append)
    first = threading.Timer(0.3, lambda: write_deltalake(path, table(value=[1, 2, 3])))
    first.start()
    assert [line.row["value"] for line in _take(lines, 2)] == [2, 3]
    first.join()
    assert "waiting for the first rows" in said[0]
    write_deltalake(path, table(value=[4]), mode="append")
    write_deltalake(path, table(value=[5]), mode="append")
    after = _take(lines, 2)
    assert [(line.row["value"], line.origin["version"]) for line in after] == [(4, 1), (5, 2)]


@pytest.fixture
def published(redis_server: Any, service_settings: Settings) -> Iterator[Callable[[int], None]]:
    contracts = ContractStore(service_settings.state)
    contracts.put(FROZEN)
    contracts.set_applied(FROZEN, at=0.0, by="test", file="x.yaml")
    store = ResultStore.from_settings(service_settings)
    store.forget("tail-e2e", "one")

    def publish(batch: int) -> None:
        store.publish(
            *("tail-e2e", "one"),
            epoch=1,
            batch_id=batch,
            rows=[ResultRow(batch * 1000, "k", {"value": batch, "average": 2.0})],
            published_key="latest_tail_e2e",
            keep=10,
            watermark=None,
            by_event_time=True,
            window_seconds=0.0,
        )

    yield publish
    store.forget("tail-e2e", "one")
    store.close()


def test_the_command_shows_old_and_new_rows_and_ends_after_so_many(
    published: Callable[[int], None], service_environ: dict[str, str]
) -> None:
    published(1)
    process = _command(service_environ, "-n", "2", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    published(2)
    second = json.loads(process.stdout.readline())
    assert process.wait(120) == 0
    assert (first["row"]["value"], second["row"]["value"]) == (1, 2)
    assert second["event_time"] == "1970-01-01T00:00:02Z"
    process.stdout.close()


def test_ctrl_c_ends_it_cleanly(published: Callable[[int], None], service_environ: dict[str, str]) -> None:
    published(1)
    process = _command(service_environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "value=1  average=2.0\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    process.stdout.close()


def _command(environ: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    headgate = str(Path(sys.executable).with_name("headgate"))
    return subprocess.Popen(
        [headgate, "tail", "tail-e2e", *arguments],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        text=True,
    )
