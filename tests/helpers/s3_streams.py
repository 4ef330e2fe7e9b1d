"""A stream whose tables are on S3: its contract, what is sent to it and what must come of that."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver_process import Stream, send
from s3_service import ACCESS_KEY, SECRET_KEY, s3_environ, s3_server
from two_lanes import frozen_of

from headgate.contract.frozen import FrozenContract, freeze

__all__ = ["Feed", "contract", "credentials", "server", "server_log", "stream"]

PARTITIONS = 2
COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "at", "type": "timestamp"},
    {"name": "value", "type": "double"},
]
SOURCE = {
    "topic": "set below",
    "partitions": PARTITIONS,
    "columns": COLUMNS,
    "rules": [{"name": "in_range", "expect": "value BETWEEN 0 AND 1000"}],
}
OUTPUTS = {
    "rows": {
        "sql": "SELECT id, at, value, _partition AS part, _offset AS place FROM a",
        "to": [{"delta": "rows"}],
        "lane": "arrow",
    },
    "large": {
        "sql": "SELECT id, value FROM a WHERE value >= 500",
        "to": [{"delta": "large"}],
        "lane": "arrow",
    },
}
TYPES = {
    "rows": {"id": "long", "at": "timestamp", "value": "double", "part": "int", "place": "long"},
    "large": {"id": "long", "value": "double"},
}
MORE = {
    "job": {"trigger": "500 milliseconds", "max_records_per_batch": 8_000, "cores": 1, "memory": "1g"},
    "quality": {
        "every": "5 minutes",
        "expectations": [{"output": "rows", "expect": "ExpectColumnValuesToNotBeNull", "column": "id"}],
    },
}


def contract(name: str, lane: str = "arrow") -> FrozenContract:
    outputs = {output: {**spec, "lane": lane} for output, spec in OUTPUTS.items()}
    plain = frozen_of({**SOURCE, "topic": f"{name}-in"}, outputs, TYPES)
    named = plain.contract.model_validate(
        {**plain.contract.model_dump(mode="json", exclude_defaults=True), "pipeline": name, **MORE}
    )
    return freeze(
        named,
        topics={"a": f"{name}-in"},
        replication=1,
        outputs=plain.outputs,
        env="torture",
        headgate_version="0",
    )


@pytest.fixture(scope="module")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3") / "server.log"


@pytest.fixture(scope="module")
def server(server_log: Path) -> Iterator[str]:
    with s3_server(server_log) as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the references name, for the tests' own process."""
    monkeypatch.setenv("LAKE_KEY", ACCESS_KEY)
    monkeypatch.setenv("LAKE_SECRET", SECRET_KEY)


@pytest.fixture
def stream(server: str, service_environ: dict[str, str], broker: object, tmp_path: Path) -> Iterator[Stream]:
    name = f"s3-{uuid.uuid4().hex[:8]}"
    environ = {
        **service_environ,
        **s3_environ(server, f"live-{name}"),
        "HEADGATE_ENV": "torture",
        "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
        "HEADGATE_SPARK_UI": "false",
    }
    made = Stream(environ, contract(name))
    try:
        yield made
    finally:
        made.end()


class Feed:
    """What was sent, and what must come of it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.good: list[int] = []
        self.bad: list[bytes] = []

    def send(self, count: int, bad_every: int, doubtful: bool = False) -> None:
        """`doubtful` times are good, and Spark's to say."""
        at = "2025-10-01T12:00" if doubtful else "2025-10-01 12:00:00"
        values = []
        for _ in range(count):
            number = len(self.good) + len(self.bad)
            record: dict[str, Any] = {"id": number, "at": at, "value": number % 1000}
            if number % bad_every:
                self.good.append(number)
                values.append(json.dumps(record).encode())
            else:
                self.bad.append(json.dumps({**record, "value": -number - 1}).encode())
                values.append(self.bad[-1])
        send(self._stream.settings, self._stream.frozen.topics["a"], values, partitions=PARTITIONS)

    def check(self) -> None:
        rows, quarantined = self._stream.rows("rows"), self._stream.quarantined()
        places = Counter((row["part"], row["place"]) for row in rows)
        assert not [place for place, times in places.items() if times > 1], "a record is there twice"
        assert sorted(row["id"] for row in rows) == self.good
        large = sorted(row["id"] for row in self._stream.rows("large"))
        assert large == [number for number in self.good if number % 1000 >= 500]
        assert Counter(row["value"] for row in quarantined) == Counter(self.bad)
        total = self._stream.books().total
        assert (total.read, total.good, total.quarantined) == (
            len(self.good) + len(self.bad),
            len(self.good),
            len(self.bad),
        )
