"""`headgate plan` and `headgate apply` as a person runs them: a contract that only exists here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

HEADGATE = str(Path(sys.executable).with_name("headgate"))
CONTRACT = """\
headgate: 1
pipeline: orders
version: 1
owner: tests
sources:
  orders:
    topic: cli-orders
    partitions: {partitions}
    columns:
      - {{name: placed, type: timestamp, required: true}}
      - {{name: shop, type: string}}
      - {{name: amount, type: "decimal(10,2)"}}
    event_time: {{column: placed, watermark: 5 minutes}}
    rules:
      - {{name: positive, expect: "amount > 0"}}
outputs:
  raw:
    sql: SELECT placed, shop, amount FROM orders
    to: [{{delta: raw}}]
  by_shop:
    sql: >-
      SELECT window.start AS hour, shop, sum(amount) AS total, count(*) AS orders
      FROM orders GROUP BY window(placed, '1 hour'), shop
    mode: update
    key: [hour, shop]
    to: [{{delta: by_shop}}, {{redis: latest_orders}}]
quality:
  expectations:
    - {{output: by_shop, expect: {expect}, column: {column}}}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def run(service_environ: dict[str, str], broker: object, folder: Path) -> Run:
    environ = {
        **os.environ,
        **service_environ,
        "HEADGATE_PIPELINES": str(folder / "pipelines"),
        "HEADGATE_ROOTS_STATE": str(folder / "state"),
        "NO_COLOR": "1",
    }
    (folder / "pipelines").mkdir()

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HEADGATE, *arguments],
            env=environ,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    return call


def write(folder: Path, **values: object) -> None:
    defaults = {"partitions": 2, "expect": "ExpectColumnValuesToNotBeNull", "column": "total"}
    (folder / "pipelines" / "orders.yaml").write_text(CONTRACT.format(**{**defaults, **values}))


def test_from_a_file_to_what_is_there_and_back_to_no_changes(run: Run, folder: Path) -> None:
    write(folder)
    planned = run("plan", "-o", "plan.json")
    assert planned.returncode == 2, planned.stderr
    assert "+ topic cli-orders: create with 2 partitions" in planned.stdout
    assert "+ contract orders: version 1" in planned.stdout
    (lane,) = [
        line for line in planned.stdout.splitlines() if line.startswith("· output orders/raw: lane jvm: ")
    ]
    assert lane.endswith("decimal(10,2)")
    applied = run("apply", "-p", "plan.json", "--json")
    assert applied.returncode == 0, applied.stderr
    done = [each["kind"] for each in json.loads(applied.stdout)["done"]]
    assert done == ["create_topic", "create_table", "create_table", "create_table", "put_contract"]
    again = run("plan", "--json")
    assert again.returncode == 0, again.stdout
    assert json.loads(again.stdout)["changes"] == {"orders": "unchanged"}
    assert {name: each["lane"] for name, each in json.loads(again.stdout)["lanes"]["orders"].items()} == {
        "raw": "jvm",
        "by_shop": "jvm",
    }
    assert run("apply").returncode == 0
    fields = DeltaTable(folder / "state" / "tables" / "orders" / "by_shop").schema().fields
    assert [(each.name, str(each.type.type)) for each in fields] == [
        ("hour", "timestamp"),
        ("shop", "string"),
        ("total", "decimal(20,2)"),
        ("orders", "long"),
    ]


@pytest.fixture
def applied(run: Run, folder: Path) -> None:
    """The contract as it is written here, applied."""
    write(folder, partitions=3)
    done = run("apply")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("applied")
def test_a_refused_plan_exits_3_says_what_to_do_and_does_nothing(run: Run, folder: Path) -> None:
    write(folder, partitions=1)
    for verb in ("plan", "apply"):
        refused = run(verb)
        assert refused.returncode == 3, refused.stderr
        assert "! topic cli-orders: has 3 partitions, and the contract asks for 1" in refused.stdout
        assert "help: write partitions: 3" in refused.stdout


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"expect": "ExpectColumnValuesToNotBNull"}, "did you mean `ExpectColumnValuesToNotBeNull`?"),
        ({"column": "totals"}, "did you mean `total`?"),
        ({"column": "total, mostly: 7"}, "mostly"),
    ],
)
def test_an_expectation_that_cannot_be_is_a_contract_error_in_its_place(
    run: Run, folder: Path, values: dict[str, str], told: str
) -> None:
    write(folder, partitions=3, **values)
    refused = run("plan")
    assert refused.returncode == 65, refused.stderr
    assert "orders.yaml:29:" in refused.stderr
    assert told in refused.stderr


@pytest.mark.usefixtures("applied")
def test_a_broken_neighbour_does_not_hold_up_a_pipeline_that_is_asked_for_by_name(
    run: Run, folder: Path
) -> None:
    neighbour = folder / "pipelines" / "broken.yaml"
    neighbour.write_text("headgate: 1\npipeline: [")
    try:
        assert run("plan").returncode == 65
        assert run("plan", "orders").returncode == 0
        assert run("plan", "order").returncode == 65
    finally:
        neighbour.unlink()


@pytest.mark.usefixtures("applied")
def test_a_removed_file_is_told_and_leaves_everything(run: Run, folder: Path) -> None:
    (folder / "pipelines" / "orders.yaml").unlink()
    planned = run("plan")
    assert planned.returncode == 0, planned.stderr
    assert "contract orders: its file is gone; what is applied goes on running" in planned.stdout


def test_a_file_that_is_no_plan_is_a_usage_error(run: Run, folder: Path) -> None:
    (folder / "plan.txt").write_text("{}")
    assert run("apply", "-p", "plan.txt").returncode == 64


def test_the_schema_is_the_committed_one(run: Run) -> None:
    from headgate.contract.schema import schema_text

    assert run("schema").stdout == schema_text()
