"""The embedded platform as a person uses it: `headgate up` and `down` on real services.

The tests run in the order of the file on one platform, as each phase of its life follows the last.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import pytest
from deltalake import DeltaTable
from kafka import KafkaConsumer, TopicPartition

from headgate.local.records import all_records, family, is_alive

PIPELINES = {"realtime-data", "logs"}
BACK_SECONDS = 300.0
RESULT_SECONDS = 400.0

Poll = Callable[[Callable[[], Any], float, str], Any]


class Platform(Protocol):
    state: Path
    environ: dict[str, str]

    def headgate(self, *arguments: str, seconds: float = ...) -> subprocess.CompletedProcess[str]: ...
    def json(self, *arguments: str) -> Any: ...


def _records(platform: Platform) -> dict[str, Any]:
    return {record.name: record for record in all_records(platform.state / "run" / "services")}


def _supervisord(platform: Platform) -> int:
    return int((platform.state / "run" / "supervisord.pid").read_text(encoding="utf-8"))


def _streams(platform: Platform) -> dict[str, Any]:
    return {item["pipeline"]: item for item in platform.json("status", "--json")}


def _served(platform: Platform, pipeline: str) -> httpx.Response:
    return httpx.get(f"{platform.json('urls', '--json')['serving']}/api/{pipeline}", trust_env=False)


def _end(platform: Platform, topic: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=platform.environ["HEADGATE_KAFKA_BROKERS"])
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        return sum(consumer.end_offsets(partitions).values())
    finally:
        consumer.close()


def test_up_runs_both_pipelines_to_a_served_checked_and_scraped_result(platform: Platform) -> None:
    streams = _streams(platform)
    assert set(streams) == PIPELINES
    for name, stream in streams.items():
        assert stream["state"] == "running", stream
        assert stream["rows_read"] > 0
        assert stream["verdict"] is not None
        assert _served(platform, name).status_code == 200
    urls = platform.json("urls", "--json")
    query = {"query": 'count by (pipeline) ({job="headgate-drivers"})'}
    found = httpx.get(f"{urls['prometheus']}/api/v1/query", params=query, trust_env=False).json()
    assert {series["metric"].get("pipeline") for series in found["data"]["result"]} >= PIPELINES


def test_urls_name_every_address_and_never_a_password(platform: Platform) -> None:
    urls = platform.json("urls", "--json")
    assert set(urls) >= {"airflow", "status", "serving", "prometheus", "alertmanager", "kafka", "supervisor"}
    password = (platform.state / "secrets" / "airflow.password").read_text(encoding="utf-8").strip()
    shown = platform.headgate("urls").stdout
    assert "airflow.password" in shown
    assert password not in shown


def test_airflow_lets_the_stated_login_in_and_nobody_else(platform: Platform) -> None:
    url = platform.json("urls", "--json")["airflow"]
    password = (platform.state / "secrets" / "airflow.password").read_text(encoding="utf-8").strip()
    login = {"username": "admin", "password": password}
    assert httpx.post(f"{url}/auth/token", json=login, trust_env=False).status_code == 201
    wrong = httpx.post(f"{url}/auth/token", json={**login, "password": "x"}, trust_env=False)
    assert wrong.status_code == 401


def test_the_stream_tasks_are_deferred_and_hold_no_slot(platform: Platform, poll_until: Poll) -> None:
    url = platform.json("urls", "--json")["airflow"]
    password = (platform.state / "secrets" / "airflow.password").read_text(encoding="utf-8").strip()
    login = {"username": "admin", "password": password}
    token = httpx.post(f"{url}/auth/token", json=login, trust_env=False).json()["access_token"]

    def deferred() -> bool:
        path = "/api/v2/dags/~/dagRuns/~/taskInstances?task_id=run_stream&state=deferred"
        answer = httpx.get(url + path, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        instances = answer.json()["task_instances"]
        found = {item["dag_id"] for item in instances if item["task_id"] == "run_stream"}
        return found == {f"stream.{name}" for name in PIPELINES}

    poll_until(deferred, 60, "both run_stream tasks are deferred")


def test_a_second_up_changes_nothing_and_says_so(platform: Platform) -> None:
    before = {name: (record.pid, record.ticks) for name, record in _records(platform).items()}
    epochs = {name: stream["epoch"] for name, stream in _streams(platform).items()}
    again = platform.headgate("up")
    assert again.returncode == 0, again.stderr
    assert "already up, nothing changed" in again.stderr
    for name in PIPELINES:
        assert name in again.stdout
    assert {name: (record.pid, record.ticks) for name, record in _records(platform).items()} == before
    assert {name: stream["epoch"] for name, stream in _streams(platform).items()} == epochs


def test_doctor_finds_nothing_wrong_with_a_platform_that_is_up(platform: Platform, poll_until: Poll) -> None:
    def clean() -> bool:
        return platform.headgate("doctor", "--json").returncode == 0

    poll_until(clean, BACK_SECONDS, "doctor exits 0")
    report = platform.json("doctor", "--json")
    assert report["failures"] == 0
    origins = {row["key"]: row["from"] for row in report["settings"]}
    assert origins["kafka.brokers"] == "HEADGATE_KAFKA_BROKERS"


@pytest.mark.parametrize(
    "names",
    [
        ("redis", "serving", "exporter", "producer-realtime-data"),
        (
            "supervisor",
            "airflow-triggerer",
            "airflow-dag-processor",
            "airflow-scheduler",
            "airflow-api-server",
        ),
        ("kafka",),
    ],
    ids=lambda names: names[0],
)
def test_services_that_are_killed_come_back_and_hurt_no_stream(
    platform: Platform, poll_until: Poll, names: tuple[str, ...]
) -> None:
    epochs = {stream: status["epoch"] for stream, status in _streams(platform).items()}
    killed = {name: _records(platform)[name] for name in names}
    for record in killed.values():
        os.kill(record.pid, signal.SIGKILL)

    def back() -> bool:
        now = _records(platform)
        return all(
            name in now and now[name].pid != before.pid and is_alive(now[name])
            for name, before in killed.items()
        )

    poll_until(back, BACK_SECONDS, f"{', '.join(names)} run again")

    def healthy() -> bool:
        findings = json.loads(platform.headgate("doctor", "--json").stdout)["findings"]
        failed = {finding["name"]: finding["failed"] for finding in findings}
        return not any(failed[name] for name in names)

    poll_until(healthy, BACK_SECONDS, f"{', '.join(names)} are healthy again")
    assert {stream: status["epoch"] for stream, status in _streams(platform).items()} == epochs


def test_killing_the_process_manager_leaves_the_services_and_up_takes_them_over(platform: Platform) -> None:
    before = {name: record.pid for name, record in _records(platform).items() if is_alive(record)}
    manager = _supervisord(platform)
    os.kill(manager, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(manager)] if psutil.pid_exists(manager) else [], timeout=10)
    assert all(is_alive(record) for record in _records(platform).values() if record.name in before)

    again = platform.headgate("up")

    assert again.returncode == 0, again.stderr
    assert _supervisord(platform) != manager
    assert {name: record.pid for name, record in _records(platform).items() if is_alive(record)} == before


def test_a_stream_that_was_stopped_on_purpose_stays_stopped(platform: Platform, poll_until: Poll) -> None:
    assert platform.headgate("stop", "logs").returncode == 0
    poll_until(lambda: _streams(platform)["logs"]["state"] == "stopped", 60, "logs is stopped")
    again = platform.headgate("up")
    assert again.returncode == 0, again.stderr
    assert "headgate start logs" in again.stderr
    assert _streams(platform)["logs"]["state"] == "stopped"
    assert platform.headgate("start", "logs").returncode == 0
    poll_until(lambda: _streams(platform)["logs"]["state"] == "running", BACK_SECONDS, "logs runs again")


def test_down_leaves_no_process_and_up_goes_on_from_the_checkpoints(
    platform: Platform, poll_until: Poll
) -> None:
    before = _streams(platform)["realtime-data"]
    records = list(_records(platform).values())

    stopped = platform.headgate("down")

    assert stopped.returncode == 0, stopped.stderr
    order = [line.split()[1] for line in stopped.stderr.splitlines() if line.strip().startswith("stopped")]
    assert order.index("airflow-scheduler") < order.index("producer-logs") < order.index("streams")
    assert order.index("streams") < order.index("supervisor") < order.index("kafka")
    assert [record.name for record in records if family(record)] == []
    assert _processes_of(platform) == []
    assert platform.headgate("down").stderr.strip().endswith("nothing ran")

    started = platform.headgate("up", "--no-pipelines")
    assert started.returncode == 0, started.stderr
    sent = platform.headgate("produce", "realtime-data", "--count", "500", "--rate", "1000")
    assert sent.returncode == 0, sent.stderr
    again = platform.headgate("up")
    assert again.returncode == 0, again.stderr

    def caught_up() -> bool:
        stream = _streams(platform)["realtime-data"]
        return stream["state"] == "running" and stream["rows_read"] >= before["rows_read"] + 500

    poll_until(caught_up, RESULT_SECONDS, "the records that were sent in between are read")
    # Each record counts once, whatever was killed before. The stream runs on meanwhile, and its queries
    # are not at the same batch, so what was read is held against the topic as it is afterwards.
    table = DeltaTable(platform.state / "tables" / "realtime-data" / "average").to_pyarrow_table()
    rows_read = _streams(platform)["realtime-data"]["rows_read"]
    end = _end(platform, "realtime_data")
    assert rows_read <= end
    assert sum(table["readings"].to_pylist()) <= end
    assert table.num_rows == len(set(table["timestamp"].to_pylist()))


def test_down_works_when_half_of_the_platform_is_dead(platform: Platform) -> None:
    for name in ("supervisor", "airflow-scheduler"):
        os.kill(_records(platform)[name].pid, signal.SIGKILL)
    os.kill(_supervisord(platform), signal.SIGKILL)
    for name in ("supervisor", "airflow-scheduler", "redis"):
        record = _records(platform)[name]
        if is_alive(record):
            os.kill(record.pid, signal.SIGKILL)

    stopped = platform.headgate("down")

    assert stopped.returncode == 0, stopped.stderr
    assert _processes_of(platform) == []


def _processes_of(platform: Platform) -> list[str]:
    """Every process whose environment or arguments name this platform's state."""
    mark = str(platform.state)
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if mark in line and process.pid != os.getpid():
                found.append(f"{process.pid} {line}"[:200])
        except psutil.Error:
            continue
    return found
