"""Where the workers of a driver ask for schemas by their ids.

The driver alone talks to the registry: it holds the credentials, asks once for what all its workers want,
and waits while the registry is away. A record whose id it does not know yet therefore holds its batch back;
one whose id the subject does not have is nobody's record, and stays so (`headgate.formats.learned`).
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headgate.errors import HeadgateError
from headgate.formats.decoder import unresolved
from headgate.formats.learned import Learned, Subject
from headgate.formats.schema import schema_of

if TYPE_CHECKING:
    from headgate.contract.model import Contract, Source
    from headgate.formats.registry import Registered
    from headgate.settings import Settings

__all__ = ["Asker", "DeskClosedError", "SchemaDesk", "open_desk"]

_log = logging.getLogger("headgate.registry")
LONGEST_QUESTION = 1_048_576
LONGEST_PAUSE = 5.0
# A registry of several servers may answer before it has heard of what another one has just registered.
SETTLING = 2.0


def open_desk(
    settings: Settings,
    contract: Contract,
    kept: Path | None,
    *,
    stopping: Callable[[float], bool],
    waiting: Callable[[str | None], None],
) -> SchemaDesk | None:
    """The desk of a driver whose contract has sources with a registry. `kept` is the file of what it learns.

    Raises SettingsError where no registry is set.
    """
    sources = {
        name: source
        for name, source in contract.sources.items()
        if source.record_schema is not None and source.record_schema.registry
    }
    if not sources:
        return None
    from headgate.formats.registry import Registry

    host, registry, learned = settings.spark.driver_host, Registry(settings), Learned(kept)
    return SchemaDesk(sources, registry, learned, stopping=stopping, waiting=waiting, host=host)


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


class SchemaDesk:
    """`stopping` waits for so many seconds and says whether to give up; `waiting` is told what is missing."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        registry: Versions,
        learned: Learned,
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
        self._learned = learned
        self._looking = threading.Lock()  # at what was learned; never held while a registry is waited for
        self._asking = threading.Lock()
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
        if self._open(source, ids):
            with self._asking:  # one at a time: who comes after it finds what it has learned
                if self._open(source, ids) and not self._learn(source, ids):
                    return None
        with self._looking:
            texts = self._learned.of(source).texts
            return {each: texts[each] for each in ids if each in texts}

    def _open(self, source: str, ids: Sequence[int]) -> set[int]:
        with self._looking:
            return self._learned.of(source).open(ids)

    def _learn(self, source: str, ids: Sequence[int]) -> bool:
        """Ask for the versions that are new, twice before an id is held to be none. False when told to
        end."""
        subject = self._learned.of(source)
        for again in (False,) if subject.full else (False, True):
            if again and self._stopping(SETTLING):
                return False
            found = self._versions(source, subject)
            if found is None:
                return False
            self._take(source, subject, found)
            if not (left := self._open(source, ids)):
                return True
        _log.warning("source %s: ids of schemas that its subject has not: %s", source, _some(left))
        with self._looking:
            self._learned.missing(source, left)
        return True

    def _take(self, source: str, subject: Subject, found: Sequence[Registered]) -> None:
        with self._looking:
            new = self._learned.found(source, found)
        for each in new:
            self._tell(source, each)
        if late := subject.unknown & {each.id for each in found}:
            _log.warning(
                "source %s: its subject has the schemas %s now; their records go on to the quarantine until "
                "another contract is applied",
                source,
                _some(late),
            )

    def _versions(self, source: str, subject: Subject) -> list[Registered] | None:
        """Waits while the registry is away, does not let us in, or has lost the subject that the contract
        was planned with: the records are there tomorrow as well. None when told to end."""
        schema, pause = self._sources[source].record_schema, 0.5
        name = str(schema.subject) if schema is not None else ""
        while True:
            try:
                found = self._registry.versions(name, self._sources[source].format, sorted(subject.versions))
            except HeadgateError as error:
                self._waiting(error.message)
                if self._stopping(pause):
                    return None
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._waiting(None)
                return found

    def _tell(self, name: str, found: Registered) -> None:
        source = self._sources[name]
        why = unresolved(schema_of(source), source, found.text)
        if why is None:
            _log.info("source %s: schema %d, version %d of its subject", name, found.id, found.version)
        else:
            _log.warning("source %s: records of schema %d go to the quarantine: %s", name, found.id, why)

    def _answer(self, question: Any) -> dict[str, Any] | None:
        """None for who does not know the token, or asks what cannot be asked."""
        if not isinstance(question, dict) or not hmac.compare_digest(str(question.get("token")), self._token):
            return None
        source, ids = str(question.get("source")), question.get("ids")
        if source not in self._sources or not isinstance(ids, list) or {*map(type, ids)} - {int}:
            return None
        found = self.find(source, ids)
        return {"closed": True} if found is None else {"schemas": found}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], answer: Callable[[Any], dict[str, Any] | None]) -> None:
        self.answer = answer
        super().__init__(address, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = 30.0  # to put the question; its answer takes as long as the registry does

    def handle(self) -> None:
        try:
            question = json.loads(self.rfile.readline(LONGEST_QUESTION))
        except (ValueError, TimeoutError):
            return  # no question: the connection is closed without an answer
        answer = self.server.answer(question)
        if answer is not None:
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def _some(ids: set[int]) -> str:
    shown = [str(each) for each in sorted(ids)]
    return ", ".join(shown[:10]) + (" …" if len(shown) > 10 else "")
