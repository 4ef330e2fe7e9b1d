from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import bench.latency
from bench.dataset import PARTITIONS
from bench.forms import MORE_COLUMNS
from bench.lanes import LANE_JOBS
from bench.latency import Sight, _newest_of_commit
from bench.pace import records
from headgate.contract.loader import LoadedContract, parse_contract
from headgate.contract.model import Contract

FOLDER = Path(bench.latency.__file__).parent / "pipelines"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_contract_of_the_benchmark_is_valid_and_has_the_topics_partitions(path: Path) -> None:
    parsed = parse_contract(path)
    assert isinstance(parsed, LoadedContract), str(parsed)
    assert {source.partitions for source in parsed.contract.sources.values()} == {PARTITIONS}


@pytest.mark.parametrize("name", sorted({job.pipeline for part in LANE_JOBS.values() for job in part}))
def test_a_throughput_job_has_five_rules(name: str) -> None:
    parsed = parse_contract(FOLDER / f"{name}.yaml")
    assert isinstance(parsed, LoadedContract)
    assert len(parsed.contract.sources["readings"].rules) == 5


def test_the_contract_of_wide_records_names_all_their_columns() -> None:
    parsed = parse_contract(FOLDER / "bench-wide.yaml")
    assert isinstance(parsed, LoadedContract)
    columns = [column.name for column in parsed.contract.sources["readings"].columns]
    assert columns == ["seq", "device", "ts", "value", "status", *MORE_COLUMNS]


@pytest.mark.parametrize("kind", sorted(bench.latency._OUTPUTS))
def test_each_output_of_the_latency_measurement_makes_a_valid_contract(kind: str, tmp_path: Path) -> None:
    yaml = YAML(typ="safe")
    document = yaml.load((FOLDER / "bench-live.yaml").read_text(encoding="utf-8"))
    document["outputs"] = {"newest": dict(bench.latency._OUTPUTS[kind])}
    file = tmp_path / "bench-live.yaml"
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(document, stream)
    parsed = parse_contract(file)
    assert isinstance(parsed, LoadedContract), str(parsed)
    assert isinstance(parsed.contract, Contract)


def test_a_paced_record_has_the_fields_of_its_contract() -> None:
    keys, values = records(np.array([7, 1_000_207]), 1_767_225_600.25)
    first, second = (json.loads(bytes(value)) for value in values)
    assert first == {"seq": 10_000_007, "device": "d-007", "ts": "2026-01-01T00:00:00.250Z", "value": 65.433}
    assert second["seq"] == 11_000_207
    assert [bytes(key).decode() for key in keys] == ["d-007", "d-007"]


def test_the_newest_rows_of_a_commit_are_those_it_brought_and_not_those_it_merged(tmp_path: Path) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    def rows(part: int, newest: list[int]) -> pa.Table:
        return pa.table({"part": pa.array([part] * len(newest), pa.int32()), "newest": pa.array(newest)})

    write_deltalake(tmp_path, rows(1, [5, 9]))
    write_deltalake(tmp_path, rows(2, [7]), mode="append")
    DeltaTable(tmp_path).optimize.compact()
    log = tmp_path / "_delta_log"
    seen = [_newest_of_commit(tmp_path, log / f"{version:020}.json") for version in range(3)]
    assert seen == [{1: 9}, {2: 7}, {}]
    assert Sight(1.0, seen[0]).newest[1] == 9
