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
import socketserver
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headgate.errors import HeadgateError, ServiceError
from headgate.formats.asker import Asker
from headgate.formats.decoder import unresolved
from headgate.formats.learned import Learned
from headgate.formats.schema import same_schema, schema_of

if TYPE_CHECKING:
    from headgate.contract.model import Contract, Source
    from headgate.formats.registry import Registered, Unusable
    from headgate.settings import Settings

__all__ = ["SchemaDesk", "open_desk"]

_log = logging.getLogger("headgate.registry")
LONGEST_QUESTION = 1_048_576
LONGEST_PAUSE = 5.0
# A registry of several servers may answer before it has heard of what another one has just registered.
SETTLING = 2.0
# Bytes that are no records make ids that are none: beyond the first few of a source, which may well be those
# of a producer that is new, they get that moment once in a while, for each costs it to a batch.
FEW_UNKNOWN = 50
SECOND_LOOK_EVERY = 30.0


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


class Versions(Protocol):
    """What the desk needs of `headgate.formats.registry.Registry`."""

    def versions(
        self, subject: str, format_: str, known: Collection[int], *, afresh: bool
    ) -> Iterable[Registered | Unusable]: ...


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._registry = registry
        self._stopping = stopping
        self._waiting = waiting
        self._host = host
        self._token = secrets.token_hex(32)
        self._learned = learned
        self._looking = threading.Lock()  # at what was learned; never held while a registry is waited for
        self._asking = {name: threading.Lock() for name in sources}
        self._clock = clock
        self._looked_twice: dict[str, float] = {}  # when, by source
        self._telling = threading.Lock()
        self._missing: dict[str, str] = {}  # what is waited for, by source
        everywhere = host not in {"127.0.0.1", "localhost"}
        self._server = _Server(("0.0.0.0" if everywhere else "127.0.0.1", 0), self._answer)
        # Looks that often whether it shall end, which a driver that stops waits for.
        serve = partial(self._server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, name="schemas", daemon=True).start()

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
            with self._asking[source]:  # one at a time: who comes after it finds what it has learned
                if self._open(source, ids) and not self._patiently(source, ids):
                    return None
        with self._looking:
            texts = self._learned.of(source).texts
            return {each: texts[each] for each in ids if each in texts}

    def _open(self, source: str, ids: Sequence[int]) -> set[int]:
        with self._looking:
            return self._learned.of(source).open(ids)

    def _patiently(self, source: str, ids: Sequence[int]) -> bool:
        """Waits while the registry is away, does not let us in, or has lost what the contract was planned
        with, and while what it says cannot be kept: the records are there tomorrow as well. False when told
        to end."""
        pause = 0.5
        while True:
            try:
                done = self._learn(source, ids)
            except HeadgateError as error:
                self._wait_for(source, f"{error.message}: {error.help}" if error.help else error.message)
            except OSError as error:
                self._wait_for(source, f"what was learned of the registry's schemas cannot be kept: {error}")
            else:
                self._wait_for(source, None)
                return done
            if self._stopping(pause):
                return False
            pause = min(pause * 2, LONGEST_PAUSE)

    def _wait_for(self, source: str, what: str | None) -> None:
        with self._telling:
            if what is not None:
                self._missing[source] = what
            elif self._missing.pop(source, None) is None:
                return
            self._waiting(next(iter(self._missing.values()), None))

    def _learn(self, source: str, ids: Sequence[int]) -> bool:
        """Ask for the versions that are new, and for all of them before an id is held to be none. False when
        told to end."""
        if not self._look(source, ids, afresh=False):
            return False
        if (left := self._open(source, ids)) and self._deserves_another(source):
            if self._stopping(SETTLING) or not self._look(source, ids, afresh=True):
                return False
            self._looked_twice[source] = self._clock()
            left = self._open(source, ids)
        if left:
            _log.warning("source %s: ids of schemas that its subject has not: %s", source, _some(left))
            with self._looking:
                self._learned.missing(source, left)
        return True

    def _deserves_another(self, source: str) -> bool:
        subject, last = self._learned.of(source), self._looked_twice.get(source)
        if subject.full:
            return False
        rare = len(subject.unknown) < FEW_UNKNOWN
        return rare or last is None or self._clock() - last >= SECOND_LOOK_EVERY

    def _look(self, source: str, ids: Sequence[int], *, afresh: bool) -> bool:
        """Learns each version as it comes. False when told to end."""
        subject, format_ = self._learned.of(source), self._sources[source].format
        known = () if afresh else sorted(subject.versions)
        for one in self._registry.versions(self._subject(source), format_, known, afresh=afresh):
            self._take(source, one)
            if not afresh and not self._open(source, ids):
                break
            if self._stopping(0):
                return False
        return True

    def _subject(self, source: str) -> str:
        schema = self._sources[source].record_schema
        return str(schema.subject) if schema is not None else ""

    def _take(self, source: str, one: Registered | Unusable) -> None:
        self._check(source, one)
        subject = self._learned.of(source)
        with self._looking:
            late = one.id in subject.unknown and one.version not in subject.versions
            new = self._learned.found(source, one)
        if new:
            self._tell(source, one)
        elif late:
            _log.warning(
                "source %s: its subject has the schema %d now; its records go on to the quarantine until "
                "another contract is applied",
                source,
                one.id,
            )

    def _check(self, source: str, one: Registered | Unusable) -> None:
        """A registry or a subject that was made anew gives an id to another schema, and bytes do not say
        which of the two they were written with. Raises ServiceError."""
        frozen, text = self._sources[source].record_schema, one.said().get("text")
        known = self._learned.of(source).texts.get(one.id)
        if known is None and frozen is not None and frozen.id == one.id:
            known = frozen.text
        if (
            known is not None
            and text is not None
            and not same_schema(self._sources[source].format, known, text)
        ):
            raise ServiceError(
                f"the registry's schema {one.id}, version {one.version} of the subject "
                f"{self._subject(source)!r}, is another one than it was: it was made anew",
                help="bring its schemas back; or write to another topic, and apply a contract that reads it",
            )

    def _tell(self, name: str, found: Registered | Unusable) -> None:
        source, said = self._sources[name], found.said()
        why = said.get("why") or unresolved(schema_of(source), source, said["text"])
        if why is None:
            _log.info("source %s: schema %d, version %d of its subject", name, found.id, found.version)
        else:
            _log.warning(
                "source %s: records of schema %d go to the quarantine: %s", name, found.id, why[:500]
            )

    def _answer(self, question: Any) -> dict[str, Any] | None:
        """None for who does not know the token, or asks what cannot be asked."""
        if not isinstance(question, dict) or not hmac.compare_digest(str(question.get("token")), self._token):
            return None
        source, ids = str(question.get("source")), question.get("ids")
        if source not in self._sources or not isinstance(ids, list) or {*map(type, ids)} - {int}:
            return None
        try:
            found = self.find(source, ids)
        except Exception as error:  # noqa: BLE001 -- who asks must not take it for the driver's end
            _log.exception("source %s: schemas cannot be found", source)
            return {"failed": f"{type(error).__name__}: {error}"}
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
