"""What a driver has learned of a registry's ids, kept beside its checkpoint.

A batch that runs again must judge each record as it did before, and every query of a pipeline as the others
do, whatever has become of the registry meanwhile: a record that was no record when the table was written,
and is one when the quarantine is, would be in neither. So what was learned of an id stays true for as long
as the contract runs on its lineage. Each id is a line of a file, written before a worker hears of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.formats.registry import Registered, Unusable

__all__ = ["MOST_UNKNOWN", "Learned", "Subject"]

# Bytes at random make ids at random: so many are remembered, a few hundred kilobytes, and others asked again.
MOST_UNKNOWN = 10_000


@dataclass(slots=True)
class Subject:
    """What a source's subject has, as far as it was asked, and the ids that it has not.

    `unusable` are ids of schemas that it has and that nobody can read, with the reason.
    """

    texts: dict[int, str] = field(default_factory=dict)
    versions: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    unusable: dict[int, str] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        return len(self.unknown) >= MOST_UNKNOWN

    def open(self, ids: Iterable[int]) -> set[int]:
        """Those of the ids of which nothing is known yet."""
        return set(ids) - self.texts.keys() - self.unknown - self.unusable.keys()


class Learned:
    """By source; in memory alone without a file. What cannot be written was not learned."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._subjects: dict[str, Subject] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._take(line)

    def of(self, source: str) -> Subject:
        return self._subjects.setdefault(source, Subject())

    def found(self, source: str, one: Registered | Unusable) -> bool:
        """Take up a version of the subject. Whether its id was not known."""
        subject = self.of(source)
        new = bool(subject.open([one.id]))
        line: dict[str, Any] = {"id": one.id, "version": one.version, **one.said()}
        if new:
            self._write(source, [line])
            self._note(subject, line)
        subject.versions.add(one.version)
        return new

    def missing(self, source: str, ids: Iterable[int]) -> None:
        """Take up that the subject does not have these ids."""
        subject = self.of(source)
        kept = sorted(subject.open(ids))[: MOST_UNKNOWN - len(subject.unknown)]
        self._write(source, [{"id": each} for each in kept])
        subject.unknown.update(kept)

    def _take(self, line: str) -> None:
        try:
            said: dict[str, Any] = json.loads(line)
            subject, schema_id = self.of(said["source"]), int(said["id"])
            if subject.open([schema_id]):
                self._note(subject, {**said, "id": schema_id})
        except (ValueError, KeyError, TypeError):
            return  # cut off by a kill: no worker has heard of it

    def _note(self, subject: Subject, said: dict[str, Any]) -> None:
        if "text" in said:
            subject.texts[said["id"]] = said["text"]
            subject.versions.add(int(said["version"]))
        elif "why" in said:
            subject.unusable[said["id"]] = said["why"]
            subject.versions.add(int(said["version"]))
        else:
            subject.unknown.add(said["id"])

    def _write(self, source: str, lines: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps({"source": source, **line}) + "\n" for line in lines)
        if not text or self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(file).st_size
            # Behind a line that a kill has cut off the next one begins anew; an empty one says nothing.
            _append(file, b"\n" + text.encode() if before else text.encode(), before)
        finally:
            os.close(file)


def _append(file: int, data: bytes, before: int) -> None:
    """All of it or nothing: a line that stayed would be believed after what is learned in its place."""
    try:
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    except OSError:
        os.ftruncate(file, before)
        raise
