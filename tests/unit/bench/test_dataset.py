from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from kafka.record.default_records import DefaultRecordBatch

from bench.batches import encode_batch
from bench.dataset import PARTITIONS, Dataset


def _records(dataset: Dataset) -> list[tuple[int, bytes, bytes]]:
    """Partition, key and value of every record."""
    found = []
    for partition in range(PARTITIONS):
        keys, values = dataset.values(partition, 0, dataset.per_partition)
        found += [(partition, bytes(k), bytes(v)) for k, v in zip(keys, values, strict=True)]
    return found


def _good(value: bytes) -> bool:
    try:
        record = json.loads(value)
    except ValueError:
        return False
    return bool(0 <= record["value"] <= 1000 and record["status"] in (0, 1, 2, 3))


def test_every_record_is_json_of_one_length_with_its_own_number() -> None:
    dataset = Dataset(8000)
    records = [json.loads(value) for _, _, value in _records(dataset)]
    assert {len(value) for _, _, value in _records(dataset)} == {90}
    assert sorted(record["seq"] for record in records) == list(range(10_000_000, 10_008_000))


def test_a_device_stays_in_its_partition_and_there_are_two_hundred() -> None:
    partitions: dict[bytes, set[int]] = {}
    for partition, key, value in _records(Dataset(8000)):
        assert json.loads(value)["device"].encode() == key
        partitions.setdefault(key, set()).add(partition)
    assert len(partitions) == 200
    assert all(len(found) == 1 for found in partitions.values())


def test_values_are_spread_and_times_rise_with_the_number() -> None:
    records = [json.loads(value) for _, _, value in _records(Dataset(8000))]
    assert len({record["value"] for record in records}) > 7000
    ordered = [record["ts"] for record in sorted(records, key=lambda record: record["seq"])]
    assert ordered == sorted(ordered)
    assert ordered[0] == "2026-01-01T00:00:00.000"
    assert ordered[-1] == "2026-01-01T00:00:01.599"


def test_the_recount_is_what_reading_every_record_gives() -> None:
    dataset = Dataset(120_000, bad_every=10_000)
    values = [value for _, _, value in _records(dataset)]
    good = [json.loads(value) for value in values if _good(value)]
    windows = Counter(
        (
            int(datetime.fromisoformat(r["ts"]).replace(tzinfo=UTC).timestamp()) // 10 * 10_000,
            int(r["device"][2:]),
        )
        for r in good
    )
    expected = dataset.expected()
    assert (expected.good, expected.bad) == (len(good), len(values) - len(good))
    assert expected.bad == 120_000 // 10_000
    assert expected.sum_of_seq == sum(record["seq"] for record in good)
    assert expected.windows == dict(windows)


def test_bad_records_come_in_every_partition_and_of_three_kinds() -> None:
    bad = [
        (partition, value)
        for partition, _, value in _records(Dataset(120_000, bad_every=10_000))
        if not _good(value)
    ]
    assert {partition for partition, _ in bad} == set(range(PARTITIONS))
    assert any(b"-1.000" in value for _, value in bad)
    assert any(b'"status":9' in value for _, value in bad)
    assert any(not value.endswith(b"}") for _, value in bad)


@pytest.mark.parametrize("records", [0, 3, 10**9])
def test_a_number_that_the_layout_cannot_hold_is_refused(records: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        Dataset(records)


@pytest.mark.parametrize("count", [1, 64, 65, 1024, 8192])
def test_a_batch_reads_back_as_its_records(count: int) -> None:
    keys, values = Dataset(40_000).values(1, 0, count)
    batch = DefaultRecordBatch(encode_batch(keys, values, 1_767_225_600_123))
    assert batch.validate_crc()
    records = list(batch)
    assert [record.offset for record in records] == list(range(count))
    assert [record.value for record in records] == [bytes(value) for value in values]
    assert [record.key for record in records] == [bytes(key) for key in keys]
    assert {record.timestamp for record in records} == {1_767_225_600_123}


def test_a_batch_of_more_records_than_its_offsets_reach_is_refused() -> None:
    keys, values = Dataset(40_000).values(0, 0, 8193)
    with pytest.raises(ValueError, match="8,192"):
        encode_batch(keys, values, 0)
