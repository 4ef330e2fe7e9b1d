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
    from headgate.formats.registry import Registered

__all__ = ["MOST_UNKNOWN", "Learned", "Subject"]

# Bytes at random make ids at random: so many are remembered, a few hundred kilobytes, and others asked again.
MOST_UNKNOWN = 10_000


@dataclass(slots=True)
class Subject:
    """What a source's subject has, as far as it was asked, and the ids that it has not."""

    texts: dict[int, str] = field(default_factory=dict)
    versions: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)

    @property
    def full(self) -> bool:
        return len(self.unknown) >= MOST_UNKNOWN

    def open(self, ids: Iterable[int]) -> set[int]:
        """Those of the ids of which nothing is known yet."""
        return set(ids) - self.texts.keys() - self.unknown


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

    def found(self, source: str, schemas: Iterable[Registered]) -> list[Registered]:
        """Take up versions of the subject; those whose id was not known."""
        subject, listed = self.of(source), list(schemas)
        new = [each for each in listed if subject.open([each.id])]
        self._write(source, [{"id": each.id, "version": each.version, "text": each.text} for each in new])
        subject.texts.update({each.id: each.text for each in reversed(new)})
        subject.versions.update(each.version for each in listed)
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
        except (ValueError, KeyError, TypeError):
            return  # cut off by a kill: no worker has heard of it
        if not subject.open([schema_id]):
            return
        if "text" in said:
            subject.texts[schema_id] = said["text"]
            subject.versions.add(int(said["version"]))
        else:
            subject.unknown.add(schema_id)

    def _write(self, source: str, lines: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps({"source": source, **line}) + "\n" for line in lines)
        if not text or self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as stream:
            # Behind a line that a kill has cut off the next one begins anew; an empty one says nothing.
            stream.write(b"\n" + text.encode() if stream.tell() else text.encode())
            stream.flush()
            os.fsync(stream.fileno())
