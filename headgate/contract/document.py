"""Reads one YAML file as plain data that remembers its positions, and refuses what YAML should not do.

A contract is data: tags, anchors and aliases are refused, duplicate keys too, and the file's size is
limited before it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from headgate.errors import Problem

__all__ = ["MAX_BYTES", "Document", "Place", "read_document"]

# A contract of 200 columns and 100 rules is some 30 kB; ten times that is a mistake or an attack.
MAX_BYTES = 262_144
MAX_DEPTH = 30

# The first thing that a message names, such as a column that SQL has and the source has not.
_NAMED = re.compile(r"(?:`[^`]+`\.)*`([^`]+)`")

Place = tuple[int, int]
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The data of one file, with (line, column), from 1, of every key and value. `last_lines` is of values
    on several lines."""

    name: str
    data: Any
    places: Mapping[Key, Place]
    key_places: Mapping[Key, Place]
    lines: tuple[str, ...] = field(repr=False, default=())
    last_lines: Mapping[Key, int] = field(repr=False, default_factory=dict)

    def problem(
        self,
        at: Key,
        message: str,
        *,
        expected: str | None = None,
        help: str | None = None,
        on_key: bool = False,
    ) -> Problem:
        """A problem at a path of keys, or at the nearest place above it that the file has. In a value on
        several lines it is where that stands which the message names first."""
        line, column = self._within(at, message) or self._place(at, on_key)
        excerpt = self.lines[line - 1] if 0 < line <= len(self.lines) else None
        if excerpt is not None and len(excerpt) > 160:
            excerpt = None
        return Problem(self.name, line, column, message, expected, help, excerpt)

    def _within(self, at: Key, message: str) -> Place | None:
        named = _NAMED.search(message)
        if named is None or at not in self.last_lines:
            return None
        word = re.compile(rf"(?<!\w){re.escape(named.group(1))}(?!\w)", re.IGNORECASE)
        first, column = self.places[at]
        for number in range(first, self.last_lines[at] + 1):
            found = word.search(self.lines[number - 1], column - 1 if number == first else 0)
            if found is not None:
                return number, found.start() + 1
        return None

    def _place(self, at: Key, on_key: bool) -> Place:
        wanted = self.key_places if on_key else self.places
        if at in wanted:
            return wanted[at]
        while at:
            at = at[:-1]
            if at in self.places:
                return self.places[at]
        return (1, 1)


def read_document(path: Path, name: str) -> Document | Problem:
    """Read a file. Returns the problem instead when it is not acceptable YAML."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            return Problem(name, 1, 1, f"the file has {size:,} bytes", f"at most {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return Problem(name, 1, 1, f"the file is not UTF-8: byte {error.start}", "UTF-8 text")
    except OSError as error:
        return Problem(name, 1, 1, f"the file cannot be read: {error.strerror}")
    return _parse(text, name)


def _parse(text: str, name: str) -> Document | Problem:
    lines = tuple(text.splitlines())
    builder = _Builder(name, lines)
    try:
        data = builder.read(text)
    except _Refused as refused:
        return builder.problem(refused.place, refused.message, refused.expected)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        told = error.problem or error.context or "no reason given"
        if told.startswith("found character '\\t'"):
            return builder.problem(place, "not valid YAML: a tab", expected="spaces, which alone can indent")
        return builder.problem(place, f"not valid YAML: {told}")
    except ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        return Problem(
            name, *place, f"the character U+{error.character:04X} is not accepted", "printable text"
        )
    except (YAMLError, ValueError, RecursionError) as error:
        return Problem(name, 1, 1, f"not valid YAML: {error}".splitlines()[0])
    return Document(name, data, builder.places, builder.key_places, lines, builder.last_lines)


class _Refused(Exception):
    def __init__(self, place: Place, message: str, expected: str | None = None) -> None:
        self.place = place
        self.message = message
        self.expected = expected


class _PlainComposer(Composer):
    """Refuses anchors, aliases and tags before anything is made of them: `!!bool maybe` is read by nobody."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.loader.parser.peek_event()
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(place, "YAML anchors and aliases are not accepted", "the value written out")
        if getattr(event, "tag", None) is not None:
            raise _Refused(place, f"YAML tag `{event.tag}` is not accepted", "a plain value")
        return super().compose_node(parent, index)


class _Builder:
    """Turns composed nodes into dicts, lists and scalars, keeping the place of each."""

    def __init__(self, name: str, lines: tuple[str, ...]) -> None:
        self.name = name
        self.lines = lines
        self.places: dict[Key, Place] = {}
        self.key_places: dict[Key, Place] = {}
        self.last_lines: dict[Key, int] = {}
        self._constructor = YAML(typ="safe", pure=True).constructor

    def read(self, text: str) -> Any:
        yaml = YAML(typ="safe", pure=True)
        yaml.Composer = _PlainComposer
        node = yaml.compose(text)
        if node is None:
            raise _Refused((1, 1), "the file is empty", "a contract, which starts with `headgate: 1`")
        return self.build(node, (), 0)

    def problem(self, place: Place, message: str, expected: str | None = None) -> Problem:
        line = self.lines[place[0] - 1] if place[0] <= len(self.lines) else None
        excerpt = line if line is not None and len(line) <= 160 else None
        return Problem(self.name, *place, message, expected, None, excerpt)

    def build(self, node: Node, at: Key, depth: int) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.places[at] = place
        if depth > MAX_DEPTH:
            raise _Refused(place, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, MappingNode):
            return self._mapping(node, at, depth)
        if isinstance(node, SequenceNode):
            self._plain_tag(node, "tag:yaml.org,2002:seq", place)
            return [self.build(child, (*at, i), depth + 1) for i, child in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        # A block, `|` or `>`, ends where the next line begins.
        last = min(node.end_mark.line + (node.style not in ("|", ">")), len(self.lines))
        if last > place[0]:
            self.last_lines[at] = last
        return self._scalar(node, place)

    def _mapping(self, node: MappingNode, at: Key, depth: int) -> dict[str, Any]:
        place = self.places[at]
        self._plain_tag(node, "tag:yaml.org,2002:map", place)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, ScalarNode) or str(key_node.tag).endswith(":merge"):
                raise _Refused(key_place, "a key is not a plain word", "a name followed by a colon")
            key = str(key_node.value)
            if key in result:
                first = self.key_places[(*at, key)][0]
                raise _Refused(key_place, f"duplicate key `{key}`, first on line {first}", "each key once")
            self.key_places[(*at, key)] = key_place
            result[key] = self.build(value_node, (*at, key), depth + 1)
            if value_node.start_mark.index == value_node.end_mark.index:
                self.places[(*at, key)] = key_place  # no value: YAML says it starts on the next line
        return result

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if kind in {"timestamp"}:
            return node.value  # dates stay text: the model says what they must be
        if kind not in {"str", "int", "float", "bool", "null"}:
            raise _Refused(place, f"YAML tag `{node.tag}` is not accepted", "a plain value")
        try:
            return self._constructor.construct_object(node)
        except (ValueError, LookupError, OverflowError):
            raise _Refused(place, f"not a number that can be read ({len(node.value)} characters)") from None

    def _plain_tag(self, node: Node, tag: str, place: Place) -> None:
        if node.tag != tag:
            raise _Refused(place, f"YAML tag `{node.tag}` is not accepted", "a plain value")
