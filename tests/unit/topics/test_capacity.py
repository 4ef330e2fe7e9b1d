from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from record_schemas import avro_schema, avro_source
from two_lanes import frozen_of

from headgate.contract.frozen import FrozenContract
from headgate.topics.capacity import capacity_refusals, driver_memory, machine_memory

GB = 1024**3
MakeContract = Callable[..., FrozenContract]


def small_contract(lane: str, outputs: int) -> FrozenContract:
    source = {"topic": "t", "columns": [{"name": "n", "type": "int"}]}
    names = [f"o{number}" for number in range(outputs)]
    specs = {name: {"sql": "SELECT n FROM a", "to": [{"delta": name}], "lane": lane} for name in names}
    return frozen_of(source, specs, {name: {"n": "int"} for name in names})


def with_memory(contract: FrozenContract, memory: str) -> FrozenContract:
    model = contract.contract
    return replace(
        contract, contract=model.model_copy(update={"job": model.job.model_copy(update={"memory": memory})})
    )


@pytest.mark.parametrize(("memory", "least"), [("512m", 0.5 * GB), ("1g", GB), ("10g", 11 * GB)])
def test_a_driver_needs_more_than_its_heap(contract: MakeContract, memory: str, least: float) -> None:
    assert driver_memory(with_memory(contract(), memory)) > least


def test_records_that_are_decoded_in_python_need_a_worker_for_each_core(contract: MakeContract) -> None:
    plain = with_memory(contract(), "1g")
    source = avro_source(avro_schema(("a", "int")), [{"name": "a", "type": "int"}])
    model = plain.contract.model_copy(update={"sources": {"orders": source}})
    decoded = replace(plain, contract=model)
    assert driver_memory(decoded) == driver_memory(plain) + model.job.cores * 160 * 1024 * 1024


@pytest.mark.parametrize(("lane", "outputs"), [("arrow", 1), ("auto", 2)])
def test_the_arrow_lane_needs_a_worker_with_a_batch_and_a_row_group_of_each_output_for_each_core(
    lane: str, outputs: int
) -> None:
    megabyte = 1024 * 1024
    arrow, jvm = (small_contract(each, outputs) for each in (lane, "jvm"))
    worker = (160 + 16 + outputs * 32) * megabyte
    assert driver_memory(arrow) - driver_memory(jvm) == arrow.contract.job.cores * worker


def test_windows_whose_records_are_read_in_arrow_need_a_worker_with_a_batch_for_each_core() -> None:
    source = {"topic": "t", "columns": [{"name": "n", "type": "int"}]}

    def windows(lane: str) -> FrozenContract:
        spec = {"sql": "SELECT n, count(*) AS c FROM a GROUP BY n", "to": [{"redis": "k"}], "lane": lane}
        return frozen_of(source, {"o": spec}, {"o": {"n": "int", "c": "long"}}, stateful=True)

    arrow, jvm = windows("arrow"), windows("jvm")
    assert driver_memory(arrow) - driver_memory(jvm) == arrow.contract.job.cores * (160 + 16) * 1024 * 1024


def test_what_does_not_fit_with_all_others_is_refused_with_the_sum(contract: MakeContract) -> None:
    running = {"a": with_memory(contract("a"), "4g"), "b": with_memory(contract("b"), "4g")}
    new = with_memory(contract("c"), "4g")
    assert capacity_refusals([new], running, 20 * GB) == []
    (refusal,) = capacity_refusals([new], running, 12 * GB)
    assert (refusal.code, refusal.pipeline) == ("does_not_fit", "c")
    assert "a 4,705 MB, b 4,705 MB, c 4,705 MB" in refusal.message


def test_what_runs_already_and_asks_for_no_more_may_be_applied_again(contract: MakeContract) -> None:
    running = {"a": with_memory(contract("a"), "4g")}
    assert capacity_refusals([with_memory(contract("a"), "3g")], running, GB) == []
    assert capacity_refusals([with_memory(contract("a"), "5g")], running, GB) != []


def test_a_containers_limit_counts_where_it_is_lower(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    assert machine_memory(limit) == 1048576
    limit.write_text("max\n")
    assert machine_memory(limit) == machine_memory(tmp_path / "gone") > 1048576
