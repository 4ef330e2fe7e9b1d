"""Messages of Protobuf walked through in lock-step: tag after tag, in whatever order they have their fields.

Always those records go on that are at the lowest tag, the others wait: so records whose fields are in the
order of their numbers meet at each field, whichever of them they lack. A record that goes back, or has a
field that nobody knows, begins another round, and rounds come one after the other: such records keep none
waiting that are in order. They are given up, not read, when that would be dearer than one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from headgate.formats.lockstep import Lanes, Mask, Places, Vector

__all__ = ["FIXED32", "FIXED64", "SIZED", "VARINT", "Member", "Members", "sized", "walk"]

VARINT, FIXED64, SIZED, FIXED32 = 0, 1, 2, 5
_WIRES = np.array([VARINT, FIXED64, SIZED, FIXED32], np.int64)
_ROUND = 1 << 32  # tags are below
_DONE = 2**63 - 1
_LONGEST = 5  # bytes of a tag or a length
_OFTEN = 16  # steps after which it is asked again whether most records are not `ok`
_STRAGGLERS = 256  # one in so many is not worth a step


@dataclass(frozen=True, slots=True)
class Member:
    """A field that is read here. `once`: what a second one of it means is not known here, even where another
    took the place of the first. `rivals` are the other fields of its oneof. `dtype` is that of its numbers,
    None where its values are bytes; `steps` are those that a value takes."""

    name: str
    tag: int
    read: Callable[[Lanes], Vector | None]
    wanted: bool
    dtype: np.dtype[Any] | None
    steps: int
    presence: bool
    required: bool
    once: bool
    rivals: tuple[str, ...]


class Members:
    """What a message may have. A field of one of the `numbers` that is no member, or not with its member's
    tag, is read one record at a time."""

    def __init__(self, members: Sequence[Member], numbers: Sequence[int]) -> None:
        self.by_tag: Mapping[int, Member] = {each.tag: each for each in members}
        self.tags = np.array(sorted(self.by_tag), np.int64)
        self.numbers = np.array(numbers, np.int64)
        self.steps = sum(each.steps for each in members)


def sized(lanes: Lanes) -> Vector:
    """Bytes behind their number."""
    begin = lanes.at
    sizes = lanes.varint().view(np.int64)
    lanes.fail(lanes.at - begin > _LONGEST)
    return lanes.taken(sizes)


def walk(members: Members, lanes: Lanes) -> Mapping[str, Vector]:
    """Reads each record's message to its end, and hands over the wanted fields; the records may be fewer
    then."""
    found = _Found(lanes.at)
    keys = _next(members, lanes, np.zeros(len(lanes.at), np.int64))
    for step in count(1):
        if (key := int(keys.min(initial=_DONE))) == _DONE:
            break
        rows = np.flatnonzero(keys == key)
        if not lanes.steps.worth(len(rows)):
            _give_up(lanes, keys, keys == key if key < _ROUND else keys != _DONE)
        elif len(rows) == len(keys):
            _take(members, key % _ROUND, lanes, None, found)
            keys = _next(members, lanes, keys)
        elif np.count_nonzero(keys != _DONE) * _STRAGGLERS < len(keys):
            _give_up(lanes, keys, keys != _DONE)
        else:
            part = lanes.only(rows)
            _take(members, key % _ROUND, part, rows, found)
            keys[rows] = _next(members, part, keys[rows])
            lanes.put(rows, part)
        if step % _OFTEN == 0 and (kept := lanes.narrow()) is not None:
            keys = keys[kept]
            found.narrow(kept)
    return found.vectors(members, lanes)


def _give_up(lanes: Lanes, keys: Places, odd: Mask) -> None:
    """In the first round only those whose turn it is, for the others may be in order; later all that are
    left."""
    lanes.fail(odd)
    keys[odd] = _DONE


def _next(members: Members, lanes: Lanes, previous: Places) -> Places:
    """Reads the next tags. A key is a round and a tag in it; fields that nobody knows have their wire types
    there, which are below all tags."""
    more = lanes.ok & (lanes.at < lanes.end)
    if more.all():
        return _keys(members, lanes, previous)
    keys = np.full(len(lanes.at), _DONE, np.int64)
    rows = np.flatnonzero(more)
    if len(rows):
        part = lanes.only(rows)
        keys[rows] = _keys(members, part, previous[rows])
        lanes.put(rows, part)
    return keys


def _keys(members: Members, lanes: Lanes, previous: Places) -> Places:
    begin = lanes.at
    tags = lanes.varint().view(np.int64)
    known = _among(tags, members.tags)
    odd = (tags < 0) | (tags >= _ROUND) | (lanes.at - begin > _LONGEST)
    if not known.all():
        numbers = tags >> 3
        strange = (numbers == 0) | _among(numbers, members.numbers) | ~_among(tags & 7, _WIRES)
        odd |= ~known & strange
        tags = np.where(known, tags, tags & 7)
    keys = (previous & -_ROUND) | tags
    keys += np.where(keys <= previous, _ROUND, 0)
    lanes.fail(odd)
    if not lanes.ok.all():
        keys[~lanes.ok] = _DONE
    return keys


def _among(values: Places, known: Places) -> Mask:
    """Mostly all of the values are one."""
    if len(values) and bool((values == values[0]).all()):
        return np.full(len(values), bool((known == values[0]).any()))
    return np.isin(values, known)


def _take(members: Members, tag: int, lanes: Lanes, rows: Places | None, found: _Found) -> None:
    member = members.by_tag.get(tag)
    if member is not None:
        found.take(member, lanes, rows)
    elif tag == VARINT:
        lanes.varint()
    elif tag == SIZED:
        sized(lanes)
    else:
        lanes.skip(8 if tag == FIXED64 else 4)


class _Found:
    """The fields of a message so far."""

    def __init__(self, begin: Places) -> None:
        self._begin = begin
        self._kept: dict[str, _Kept] = {}
        self._met: dict[str, Mask] = {}

    def take(self, member: Member, lanes: Lanes, rows: Places | None) -> None:
        where = slice(None) if rows is None else rows
        if member.once:
            self._meet(member, lanes, where)
        vector = member.read(lanes)
        for rival in member.rivals:
            if rival in self._kept:
                self._kept[rival].present[where] = False
        if member.wanted or member.required:
            self._keep(member, rows, vector)

    def narrow(self, rows: Places) -> None:
        self._begin = self._begin[rows]
        self._met = {name: met[rows] for name, met in self._met.items()}
        for kept in self._kept.values():
            kept.present = kept.present[rows]
            kept.vector = None if kept.vector is None else kept.vector.only(rows)

    def _meet(self, member: Member, lanes: Lanes, where: Any) -> None:
        met = self._met.get(member.name)
        if met is None:
            met = self._met[member.name] = np.zeros(len(self._begin), np.bool_)
        lanes.fail(met[where])
        met[where] = True

    def _keep(self, member: Member, rows: Places | None, vector: Vector | None) -> None:
        where = slice(None) if rows is None else rows
        kept = self._kept.get(member.name)
        if kept is None:
            kept = self._kept[member.name] = _Kept(np.zeros(len(self._begin), np.bool_))
        kept.present[where] = True
        if vector is not None and member.wanted:
            kept.vector = vector if rows is None else self._merged(kept.vector, vector, rows)

    def _merged(self, old: Vector | None, new: Vector, rows: Places) -> Vector:
        if new.ends is None:
            zeros = np.zeros(len(self._begin), new.numbers.dtype)
            numbers = zeros if old is None else old.numbers.copy()
            numbers[rows] = new.numbers
            return Vector(numbers, per_second=new.per_second)
        starts, ends = self._begin.copy(), self._begin.copy()
        if old is not None and old.ends is not None:
            starts, ends = old.numbers.copy(), old.ends.copy()
        starts[rows] = new.numbers
        ends[rows] = new.ends
        return Vector(starts, ends)

    def vectors(self, members: Members, lanes: Lanes) -> Mapping[str, Vector]:
        """What is required must be there, wanted or not."""
        for member in members.by_tag.values():
            if member.required:
                kept = self._kept.get(member.name)
                lanes.fail(np.ones(len(self._begin), np.bool_) if kept is None else ~kept.present)
        return {each.name: self._vector(each) for each in members.by_tag.values() if each.wanted}

    def _vector(self, member: Member) -> Vector:
        kept = self._kept.get(member.name)
        if kept is not None and kept.vector is not None:
            vector = kept.vector
            present = kept.present if member.presence and not kept.present.all() else None
            return Vector(vector.numbers, vector.ends, present, vector.per_second)
        present = np.zeros(len(self._begin), np.bool_) if member.presence else None
        if member.dtype is None:
            return Vector(self._begin, self._begin, present)
        return Vector(np.zeros(len(self._begin), member.dtype), None, present)


@dataclass(slots=True)
class _Kept:
    """`present`: which records have the field."""

    present: Mask
    vector: Vector | None = None
