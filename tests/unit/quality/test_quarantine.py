"""The newest quarantined records, out of real tables."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.transaction import AddAction

from headgate.arrow.quarantine import QUARANTINE
from headgate.cli.main import run
from headgate.cli.quality import _shown
from headgate.errors import NotFoundError
from headgate.quality import quarantine as module
from headgate.quality.quarantine import newest_quarantined
from headgate.settings import Settings

SOURCE = SimpleNamespace(rules=[SimpleNamespace(name="positive"), SimpleNamespace(name="small")])
FROZEN = SimpleNamespace(contract=SimpleNamespace(sources={"orders": SOURCE}))
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int, rules: list[str], value: bytes | None = b"{}") -> dict[str, Any]:
    return {
        "topic": "orders",
        "partition": number % 3,
        "offset": number,
        "timestamp": BEGIN,
        "key": None,
        "value": value,
        "source": "orders",
        "stage": "rule",
        "rules": rules,
        "contract_version": 1,
        "contract_hash": "ab" * 32,
        "generation": 1,
        "epoch": 1,
        "batch_id": number // 10,
        "lineage": "1-a",
        "quarantined_at": BEGIN + timedelta(seconds=number),
    }


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"home": tmp_path})


def quarantine(settings: Settings, *rows: dict[str, Any]) -> None:
    path = settings.tables / "shop" / "_quarantine"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_deltalake(path, pa.Table.from_pylist(list(rows), schema=QUARANTINE), mode="append")


def offsets(settings: Settings, **asked: Any) -> list[int]:
    return [each.offset for each in newest_quarantined(settings, "shop", **asked)]


def test_the_newest_come_first_out_of_several_files(settings: Settings) -> None:
    for first in (20, 0, 10):  # files are not in the order of their records, as after a merge of small ones
        quarantine(settings, *(row(first + each, ["positive"]) for each in range(10)))
    assert offsets(settings, limit=3) == [29, 28, 27]
    assert offsets(settings, limit=12) == list(range(29, 17, -1))
    assert offsets(settings, limit=99) == list(range(29, -1, -1))
    DeltaTable(settings.tables / "shop" / "_quarantine").optimize.compact()
    assert offsets(settings, limit=12) == list(range(29, 17, -1))


def test_one_rule_is_found_behind_newer_records_of_others(settings: Settings) -> None:
    quarantine(settings, row(1, ["positive", "small"]), row(2, ["small"]))
    quarantine(settings, *(row(each, ["_malformed"]) for each in range(3, 9)))
    assert offsets(settings, limit=5, rule="small") == [2, 1]
    assert offsets(settings, limit=1, rule="positive") == [1]
    assert offsets(settings, limit=5, rule="other") == []


def test_a_record_is_given_whole_with_bytes_that_are_no_text(settings: Settings) -> None:
    quarantine(
        settings, row(1, ["_malformed"], b"\xff\x00"), row(2, ["a"], None), row(3, ["b"], "né".encode())
    )
    text, null, odd = (each.to_json() for each in newest_quarantined(settings, "shop", limit=3))
    assert (text["value"], text["quarantined_at"]) == ("né", "2026-01-01T00:00:03+00:00")
    assert (null["value"], null["key"]) == (None, None)
    assert "value" not in odd and base64.b64decode(odd["value_base64"]) == b"\xff\x00"
    assert (odd["topic"], odd["partition"], odd["offset"], odd["rules"]) == ("orders", 1, 1, ("_malformed",))


def test_files_of_spark_and_times_in_no_calendar_are_read_as_well(settings: Settings) -> None:
    """Spark writes times as INT96, without a zone; a producer may send microseconds as milliseconds."""
    quarantine(settings, row(1, ["a"]), row(4, ["a"]))
    path = settings.tables / "shop" / "_quarantine"
    rows = pa.Table.from_pylist([row(2, ["a"], b"two"), row(3, ["a"]), row(5, ["b"])], schema=QUARANTINE)
    rows = rows.set_column(
        3, "timestamp", pa.array([1_700_000_000_000_000_000] * 3).cast(QUARANTINE.field(3).type)
    )
    pq.write_table(rows, path / "spark.parquet", use_deprecated_int96_timestamps=True, row_group_size=1)
    statistics = json.dumps({"numRecords": 3, "maxValues": {"quarantined_at": "2026-01-01T00:00:05.000Z"}})
    size = (path / "spark.parquet").stat().st_size
    action = AddAction("spark.parquet", size, {}, 1, True, statistics)
    DeltaTable(path).create_write_transaction([action], "append", DeltaTable(path).schema(), [])
    assert offsets(settings, limit=9) == [5, 4, 3, 2, 1]
    assert offsets(settings, limit=2) == [5, 4]
    (found, _) = newest_quarantined(settings, "shop", limit=9)[3:]
    assert (found.value, found.quarantined_at) == (b"two", BEGIN + timedelta(seconds=2))
    assert found.to_json()["timestamp"] == found.timestamp


def test_a_pipeline_without_a_quarantine_is_not_found(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="pipeline shop has no quarantine"):
        newest_quarantined(settings, "shop", limit=1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "(null)"),
        (b"", ""),
        ('{"a": "né"}'.encode(), '{"a": "né"}'),
        (b"\x1b[31mred\n\xff", "\\x1b[31mred\\n\\xff"),
        (b"x" * 161, "x" * 160 + "… (161 bytes)"),
        (b"\0" * 9000, ("\\x00" * 40) + "… (9000 bytes)"),
    ],
)
def test_no_record_can_write_to_the_terminal_as_it_likes(value: bytes | None, shown: str) -> None:
    assert _shown(value) == shown


def test_the_command_shows_them_to_people_and_to_programs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(settings.home))
    quarantine(settings, row(7, ["positive"], b'{"amount": "[bold]"}'))
    assert run(["quarantine", "shop"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["AT", "TOPIC", "PARTITION", "OFFSET", "RULES", "VALUE"]
    for text in ("2026-01-01 00:00:07Z", "orders", "positive", '{"amount": "[bold]"}'):
        assert text in line
    assert run(["quarantine", "shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["offset"] == 7
    monkeypatch.setattr(module, "ContractStore", lambda _: SimpleNamespace(current=lambda _: FROZEN))
    for rule in ("small", "_parse"):
        assert run(["quarantine", "shop", "--rule", rule]) == 0
        told = capsys.readouterr()
        assert (told.out, f"nothing of shop is quarantined for {rule}" in told.err) == ("", True)
    assert run(["quarantine", "shop", "--rule", "smal"]) == 4
    assert "did you mean `small`?" in capsys.readouterr().err
    assert run(["quarantine", "other"]) == 4
