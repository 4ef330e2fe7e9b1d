from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import lanes
from bench.dataset import FIRST_SEQ
from bench.fencing import share
from bench.latency import Sight, percentiles, readable, sight, waits
from bench.pace import due_moments
from bench.rates import Commits, read_commits, spread, steady_part
from bench.report import TEXT, recorded, results_text
from bench.throughput import batch_size, show


def test_the_first_batch_is_left_out_of_a_rate() -> None:
    query = Commits(((100.0, 1000), (101.0, 2000), (103.0, 4000)))
    assert steady_part([query], 4000).rate == 1000.0


def test_two_queries_are_as_fast_as_the_slower_one_has_committed() -> None:
    fast = Commits(((100.0, 1000), (101.0, 4000)))
    slow = Commits(((102.0, 1000), (106.0, 2000), (112.0, 4000)))
    # From 102, when both have a batch and the slower has 1000, until 112.
    assert steady_part([fast, slow], 4000).rate == 300.0


def test_one_batch_gives_no_rate() -> None:
    with pytest.raises(ValueError, match="more than one batch"):
        steady_part([Commits(((100.0, 4000),))], 4000)


def test_batches_without_records_after_the_last_do_not_lower_the_rate() -> None:
    query = Commits(((100.0, 1000), (103.0, 4000), (500.0, 4000)))
    assert steady_part([query], 4000).rate == 1000.0


def test_commits_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for folder in ("commits", "offsets"):
        (tmp_path / folder).mkdir()
    for number in range(11):
        metadata = '{"batchWatermarkMs":0,"batchTimestampMs":1,"conf":{}}'
        offsets = f'{{"t":{{"0":{number * 10 + 10},"1":5}}}}'
        (tmp_path / "offsets" / str(number)).write_text(f"v1\n{metadata}\n{offsets}", encoding="utf-8")
        commit = tmp_path / "commits" / str(number)
        commit.write_text('v1\n{"nextBatchWatermarkMs":0}', encoding="utf-8")
        os.utime(commit, (1000 + number, 1000 + number))
    found = read_commits(tmp_path)
    assert found.points[0] == (1000.0, 15)
    assert found.points[-1] == (1010.0, 115)


def test_a_record_is_readable_with_the_first_result_that_reaches_its_number() -> None:
    sent = np.array([10.0, 10.0, 10.0, 10.0, 10.1, 10.1, 10.1, 10.1])
    sights = [Sight(10.5, {0: 0, 1: 5}), Sight(11.0, {0: 4, 2: 6, 3: 7})]
    found = waits(sent, sights, 10.0, 10.2)
    assert found == pytest.approx([0.5, 0.5, 1.0, 1.0, 0.9, 0.4, 0.9, 0.9])


def test_records_outside_the_measured_time_do_not_count() -> None:
    sent = np.array([9.0, 9.0, 9.0, 9.0, 10.0])
    assert waits(sent, [Sight(10.5, {0: 4})], 10.0, 11.0) == pytest.approx([0.5])


def test_a_record_that_never_became_readable_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 records did not"):
        waits(np.array([10.0]), [], 10.0, 11.0)


def test_percentiles_name_their_number_and_their_worst() -> None:
    found = percentiles(np.arange(1, 101) / 100)
    assert found["measured"] == 100
    assert found["p50"] == pytest.approx(0.505)
    assert found["most"] == 1.0


def test_a_trial_has_eight_batches_and_a_full_run_a_million_a_batch() -> None:
    assert batch_size(400_000) == 50_000
    assert batch_size(16_000_000) == 1_000_000


_RATIOS = {"jvm_ratio": 1.0, "arrow_ratio": 1.0}


def _throughput(at: float, ratio: float) -> dict[str, Any]:
    return {
        "part": "records",
        "job": "records",
        "at": at,
        "command": "python -m bench records",
        "records": 16_000_000,
        "bad": 0,
        "ratio": ratio,
        "target": 0.8,
        "plain": spread([100.0, 120.0, 110.0]).to_json(),
        "headgate": spread([90.0, 95.0, 99.0]).to_json(),
        "machine": {
            "processor": "P",
            "cores": 2,
            "memory_gib": 24.0,
            "system": "Linux 1",
            "filesystem": "ext4",
            "loop_seconds": 1.234,
        },
        "versions": {"headgate": "0.1.0"},
    }


def test_the_newest_result_of_a_job_is_rendered_with_machine_and_command() -> None:
    text = results_text([_throughput(1.0, 0.5), _throughput(2.0, 0.864)])
    assert "| records | 16,000,000 | 0 | 110 (100–120) | 95 (90–99) | 0.86 | 0.80 |" in text
    assert "0.50" not in text
    assert "Machine: P, 2 cores, 24 GiB, Linux 1, ext4." in text
    assert "`python -m bench records`, 1970-01-01: ten million additions in CPython took 1.23 s" in text


def test_the_lanes_of_a_job_stand_side_by_side() -> None:
    seen = (("plain", 110.0), ("jvm", 90.0), ("arrow", 250.0))
    sides = {name: lanes.Side([rate], [4.0, 6.0], [2**30, 2**31]).to_json() for name, rate in seen}
    ratios = {"jvm_ratio": 0.82, "arrow_ratio": 2.27, "target": 2.5}
    result = {**_throughput(1.0, 0.5), **sides, **ratios, "part": "lanes", "job": "lanes-records-bad"}
    text = results_text([result])
    row = "| records-bad | 16,000,000 | 0 | 110 (110–110) | 90 (90–90) | 250 (250–250) | 0.82 | 2.27 | 2.50 |"
    assert row in text
    assert "| records-bad | 5.0 | 5.0 | 5.0 | 2,048 MiB | 2,048 MiB | 2,048 MiB |" in text
    told = lanes.show(result)
    assert told.startswith("ratio lanes-records-bad arrow 2.27 · jvm 0.82 · plain 110/s · jvm 90/s")


def test_the_cost_of_fencing_is_a_share_of_the_steady_time() -> None:
    steady = steady_part([Commits(((100.0, 1000), (110.0, 4000), (120.0, 4000)))], 4000)
    assert (steady.begun, steady.ended) == (100.0, 110.0)
    before, inside, after = [[99.0, 5.0]], [[101.0, 0.02], [110.0, 0.03]], [[110.5, 5.0]]
    assert share([*before, *inside, *after], steady) == pytest.approx(0.005)
    result = {**_throughput(1.0, 0.5), "part": "fencing", "job": "fencing-jvm", "title": "records, JVM lane"}
    text = results_text([{**result, "share": spread([0.0012]).to_json(), "target": 0.03}])
    assert "| records, JVM lane | 16,000,000 | 0.120% | 0.120%–0.120% | 3% |" in text


def test_a_job_without_a_figure_to_reach_says_none() -> None:
    side = lanes.Side([1.0], [1.0], [1]).to_json()
    result = {**_throughput(1.0, 0.5), "part": "lanes-wide", "job": "lanes-wide", "target": None}
    text = results_text([{**result, **dict.fromkeys(("plain", "jvm", "arrow"), side), **_RATIOS}])
    assert "| 1 (1–1) | 1.00 | 1.00 |  |" in text


def test_every_lane_job_but_the_other_forms_has_something_to_reach() -> None:
    jobs = [job for part in lanes.LANE_JOBS.values() for job in part]
    assert {job.name for job in jobs if job.arrow_target is None} == {"avro", "protobuf", "wide"}


def test_a_number_of_a_commit_is_that_of_its_record_as_it_was_sent() -> None:
    assert sight(1.0, {0: FIRST_SEQ + 4}) == Sight(1.0, {0: 4})


def test_a_record_waits_from_when_it_was_due_however_late_it_was_sent() -> None:
    assert due_moments(100.0, 50, 3).tolist() == pytest.approx([100.02, 100.04, 100.06])


def test_without_a_look_at_the_processor_nothing_is_said_of_it() -> None:
    sides = {name: spread([1.0]).to_json() for name in ("plain", "jvm", "arrow")}
    result = {**_throughput(1.0, 0.5), **_RATIOS, **sides, "part": "lanes", "job": "lanes-records"}
    assert "processor seconds" not in results_text([result])


def test_the_committed_page_is_what_the_committed_results_say() -> None:
    assert TEXT.read_text(encoding="utf-8") == results_text(recorded())


def test_without_a_run_the_page_says_so() -> None:
    assert "No run is recorded yet." in results_text([])


def test_a_job_is_told_in_one_line_that_begins_with_its_ratio() -> None:
    assert show(_throughput(1.0, 0.864)).startswith(
        "ratio records 0.86 · plain 110/s (100–120) · headgate 95/s"
    )


def test_the_measured_time_is_over_when_its_last_record_of_each_partition_was_seen() -> None:
    sent = np.array([10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 99.0])
    sights = [Sight(11.0, {0: 4, 1: 1, 2: 2, 3: 3})]
    assert not readable(sent, sights, 20.0)
    assert readable(sent, [*sights, Sight(12.0, {1: 5})], 20.0)
    assert not readable(sent, [], 20.0)
