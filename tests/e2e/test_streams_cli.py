"""`headgate start`, `stop`, `restart`, `events`, `logs` as a person runs them, against a real supervisor."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import Installation, in_phase, start, until

from headgate import __version__
from headgate.contract.frozen import ContractStore, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.streams.client import SupervisorClient
from headgate.streams.model import Owner, Phase


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path)
    try:
        yield installation
    finally:
        installation.clear()


class Person:
    """The command line with the settings of one installation."""

    def __init__(self, place: Installation, client: SupervisorClient) -> None:
        self.environment = {
            **os.environ,
            "HEADGATE_HOME": str(place.home),
            "HEADGATE_SUPERVISOR_PORT": client.url.rpartition(":")[2],
            "NO_COLOR": "1",
        }

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from headgate.cli.main import main; main()", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done


def apply(place: Installation, pipeline: str, description: str = "") -> str:
    source = {"topic": pipeline, "columns": [{"name": "id", "type": "long"}]}
    output = {"sql": "SELECT id FROM ids", "to": [{"delta": "out"}]}
    contract = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": pipeline,
            "version": 1,
            "description": description,
            "owner": "tests",
            "sources": {"ids": source},
            "outputs": {"out": output},
        }
    )
    schema = {"type": "struct", "fields": [{"name": "id", "type": "long", "nullable": True, "metadata": {}}]}
    frozen = freeze(
        contract,
        topics={"ids": pipeline},
        replication=1,
        outputs={"out": ResolvedOutput(False, schema)},
        env="local",
        headgate_version=__version__,
    )
    store = ContractStore(place.state)
    store.put(frozen)
    store.set_applied(frozen, at=1.0, by="cli:tests", file=f"{pipeline}.yaml")
    return frozen.hash


def test_a_person_starts_watches_restarts_and_stops_a_stream(place: Installation) -> None:
    client = place.supervise()
    headgate = Person(place, client)
    applied = apply(place, "orders")

    started = json.loads(headgate("start", "orders", "--json").stdout)
    assert (started["phase"], started["generation"], started["contract_hash"]) == ("running", 1, applied)
    assert started["owner"]["kind"] == "cli"
    until("a commit", lambda: place.commits("orders"))

    again = apply(place, "orders", "changed")
    until("the pending contract", lambda: "contract_pending" in client.status("orders").conditions)
    restarted = json.loads(headgate("restart", "orders", "--reason", "new contract", "--json").stdout)
    assert (restarted["phase"], restarted["generation"], restarted["contract_hash"]) == ("running", 2, again)

    stopped = headgate("stop", "orders", "--reason", "lunch")
    assert "orders: stopped, generation 2" in stopped.stdout
    assert "the running batch was committed" in stopped.stderr
    assert (client.status("orders").stopped_by or "").endswith(": lunch")

    events = json.loads(headgate("events", "orders", "--json").stdout)
    assert [event["to_phase"] for event in events if event["kind"] == "transition"][-1] == "stopped"
    assert any(event["detail"] == "restart: new contract" for event in events)
    shown = headgate("events", "orders", "-n", "2").stdout
    assert "DETAIL" in shown
    assert "stopping → stopped" in shown
    assert "runner: epoch 2, generation 2" in headgate("logs", "orders").stdout


def test_a_stop_says_that_it_had_to_kill(place: Installation) -> None:
    client = place.supervise()
    place.behave("s", mode="deaf")
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    stopped = Person(place, client)("stop", "s", "--deadline", "0.3")
    assert "the driver was killed" in stopped.stderr
    assert client.status("s").stopped_how == "killed"


def test_a_kill_waits_for_nothing(place: Installation) -> None:
    client = place.supervise()
    place.behave("s", batch=30)
    start(client, "s")
    in_phase(client, "s", Phase.STARTING)
    until("the driver", lambda: place.starts("s"))
    stopped = json.loads(Person(place, client)("stop", "s", "--kill", "--json").stdout)
    assert (stopped["phase"], stopped["stopped_how"]) == ("stopped", "killed")


def test_a_parked_stream_is_an_error_with_its_reason_and_the_next_command(place: Installation) -> None:
    client = place.supervise()
    apply(place, "orders")
    place.behave("orders", mode="crash", failure_class="checkpoint")
    failed = Person(place, client)("start", "orders", code=1)
    assert "orders is parked: checkpoint: TOLD" in failed.stderr
    assert "headgate logs orders" in failed.stderr


def test_what_is_not_applied_is_not_started(place: Installation) -> None:
    client = place.supervise()
    refused = Person(place, client)("start", "unknown", code=4)
    assert "no contract of pipeline 'unknown' is applied" in refused.stderr
    assert client.streams() == []


def test_a_restart_leaves_airflow_in_charge(place: Installation) -> None:
    client = place.supervise()
    apply(place, "orders")
    airflow = Owner(kind="airflow", dag_id="stream.orders", run_id="r", task_id="run_stream", try_number=1)
    start(client, "orders", owner=airflow)
    in_phase(client, "orders", Phase.RUNNING)
    Person(place, client)("restart", "orders")
    assert client.status("orders").owner == airflow


def test_logs_follow_a_growing_log_and_a_cut_one(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    log = place.state / "log" / "streams" / "s.log"
    command = [
        sys.executable,
        "-c",
        "from headgate.cli.main import main; main()",
        "logs",
        "s",
        "-f",
        "-n",
        "1",
    ]
    environment = Person(place, client).environment
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert "runner: epoch 1" in follower.stdout.readline()
        with log.open("a") as stream:
            stream.write("one more line\n")
        assert follower.stdout.readline() == "one more line\n"
        os.truncate(log, 0)
        with log.open("a") as stream:
            stream.write("after the cut\n")
        assert follower.stdout.readline() == "after the cut\n"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(120) == 130


def test_without_a_supervisor_the_person_is_told_what_to_start(place: Installation) -> None:
    client = place.supervise()
    place.kill_supervisor()
    told = Person(place, client)("stop", "s", code=69)
    assert "does not answer" in told.stderr
    assert "headgate up" in told.stderr


def test_the_token_is_made_for_its_owner_alone_and_kept(place: Installation) -> None:
    place.supervise()
    token = place.state / "secrets" / "supervisor.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    before = token.read_text()
    place.kill_supervisor()
    place.supervise()
    assert token.read_text() == before
    assert before.strip() not in place.journal()
