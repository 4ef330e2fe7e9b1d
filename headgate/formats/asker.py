"""How a worker asks the desk of its driver (`headgate.formats.desk`) for schemas by their ids."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Asker", "DeskClosedError", "DeskFailedError"]


class DeskClosedError(RuntimeError):
    """The driver ends: the batch that waits for a schema runs again with its successor."""


class DeskFailedError(RuntimeError):
    """The desk itself has failed; its driver's log has the traceback."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Travels to the workers; finds schemas by id at the desk of its driver."""

    host: str
    port: int
    token: str = field(repr=False)
    source: str

    def __call__(self, ids: Sequence[int]) -> Mapping[int, str]:
        question = {"token": self.token, "source": self.source, "ids": list(ids)}
        with socket.create_connection((self.host, self.port), timeout=30) as connection:
            connection.settimeout(None)  # it answers when the registry does
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"closed": True}
        if "failed" in answer:
            raise DeskFailedError(f"the driver could not find the schema of a record: {answer['failed']}")
        if "schemas" not in answer:
            raise DeskClosedError("the driver ends, and the schema of a record is not known yet")
        return {int(schema_id): text for schema_id, text in answer["schemas"].items()}
