"""Where the workers of a driver ask for schemas by their ids.

The driver alone talks to the registry: it holds the credentials, asks once for what all its workers want,
and waits while the registry is away. A record whose id it does not know yet therefore holds its batch back;
one whose id the subject does not have is nobody's record.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from headgate.errors import HeadgateError, NotFoundError
from headgate.formats.decoder import unresolved
from headgate.formats.schema import schema_of

if TYPE_CHECKING:
    from headgate.contract.model import Contract, Source
    from headgate.formats.registry import Registered
    from headgate.settings import Settings

__all__ = ["Asker", "DeskClosedError", "SchemaDesk", "open_desk"]

_log = logging.getLogger("headgate.registry")
LONGEST_QUESTION = 1_048_576
LONGEST_PAUSE = 5.0


def open_desk(
    settings: Settings,
    contract: Contract,
    *,
    stopping: Callable[[float], bool],
    waiting: Callable[[str | None], None],
) -> SchemaDesk | None:
    """The desk of a driver whose contract has sources with a registry. Raises SettingsError without one."""
    sources = {
        name: source
        for name, source in contract.sources.items()
        if source.record_schema is not None and source.record_schema.registry
    }
    if not sources:
        return None
    from headgate.formats.registry import Registry

    host = settings.spark.driver_host
    return SchemaDesk(sources, Registry(settings), stopping=stopping, waiting=waiting, host=host)


class DeskClosedError(RuntimeError):
    """The driver ends: the batch that waits for a schema runs again with its successor."""


class Versions(Protocol):
    """What the desk needs of `headgate.formats.registry.Registry`."""

    def versions(self, subject: str, format_: str, known: Sequence[int]) -> list[Registered]: ...


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
        if "schemas" not in answer:
            raise DeskClosedError("the driver ends, and the schema of a record is not known yet")
        return {int(schema_id): text for schema_id, text in answer["schemas"].items()}


@dataclass(slots=True)
class _Known:
    """What one subject has, as far as it was asked."""

    texts: dict[int, str] = field(default_factory=dict)
    versions: set[int] = field(default_factory=set)


class SchemaDesk:
    """`stopping` waits for so many seconds and says whether to give up; `waiting` is told what is missing."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        registry: Versions,
        *,
        stopping: Callable[[float], bool],
        waiting: Callable[[str | None], None],
        host: str = "127.0.0.1",
    ) -> None:
        self._sources = sources
        self._registry = registry
        self._stopping = stopping
        self._waiting = waiting
        self._host = host
        self._token = secrets.token_hex(32)
        self._lock = threading.Lock()
        self._known = {name: _Known() for name in sources}
        everywhere = host not in {"127.0.0.1", "localhost"}
        self._server = _Server(("0.0.0.0" if everywhere else "127.0.0.1", 0), self._answer)
        threading.Thread(target=self._server.serve_forever, name="schemas", daemon=True).start()

    @property
    def askers(self) -> dict[str, Asker]:
        """What goes to the workers, by source."""
        port = self._server.server_address[1]
        return {name: Asker(self._host, port, self._token, name) for name in self._sources}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def find(self, source: str, ids: Sequence[int]) -> dict[int, str] | None:
        """Schemas by id, without those that the subject does not have; None when the driver ends."""
        with self._lock:
            known = self._known[source]
            if not known.texts.keys() >= set(ids) and not self._refresh(source, known):
                return None
            return {each: known.texts[each] for each in ids if each in known.texts}

    def _refresh(self, name: str, known: _Known) -> bool:
        """Ask for the versions that are new. Waits for a registry that is away; False when told to end."""
        source, pause = self._sources[name], 0.5
        schema = source.record_schema
        subject = str(schema.subject) if schema is not None else ""
        while True:
            try:
                found = self._registry.versions(subject, source.format, sorted(known.versions))
            except NotFoundError:
                found = []  # a subject that is gone has no schemas; the reader's own is in the contract
            except HeadgateError as error:  # away, or our credentials are not those of today
                self._waiting(error.message)
                if self._stopping(pause):
                    return False
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self._waiting(None)
            self._take(name, known, found)
            return True

    def _take(self, name: str, known: _Known, found: Sequence[Registered]) -> None:
        source = self._sources[name]
        for each in found:
            known.texts[each.id] = each.text
            known.versions.add(each.version)
            why = unresolved(schema_of(source), source, each.text)
            if why is None:
                _log.info("source %s: schema %d, version %d of its subject", name, each.id, each.version)
            else:
                _log.warning("source %s: records of schema %d go to the quarantine: %s", name, each.id, why)

    def _answer(self, question: Any) -> dict[str, Any] | None:
        """None for who does not know the token, or asks what cannot be asked."""
        if not isinstance(question, dict) or not hmac.compare_digest(str(question.get("token")), self._token):
            return None
        found = self.find(str(question["source"]), [int(each) for each in question["ids"]])
        return {"closed": True} if found is None else {"schemas": found}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], answer: Callable[[Any], dict[str, Any] | None]) -> None:
        self.answer = answer
        super().__init__(address, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            answer = self.server.answer(json.loads(self.rfile.readline(LONGEST_QUESTION)))
        except (ValueError, KeyError, TypeError):
            return  # no question: the connection is closed without an answer
        if answer is not None:
            self.wfile.write(json.dumps(answer).encode() + b"\n")
