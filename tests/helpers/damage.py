"""Bytes that were a record once."""

from __future__ import annotations

import random

from hypothesis import strategies as st

__all__ = ["DAMAGES", "damaged"]

DAMAGES = st.sampled_from(["none", "none", "none", "flip", "cut", "append", "noise", "empty", "null", "high"])


def damaged(value: bytes, how: str, seed: int) -> bytes | None:
    chance = random.Random(seed)
    if how == "null":
        return None
    if how == "empty":
        return b""
    if how == "noise":
        return chance.randbytes(chance.randrange(40))
    if how == "append":
        return value + chance.randbytes(chance.randrange(1, 4))
    if how == "cut":
        return value[: chance.randrange(len(value) + 1)]
    body = bytearray(value)
    for _ in range(chance.randrange(1, 3) if body and how != "none" else 0):
        place = chance.randrange(len(body))
        body[place] = body[place] | 0x80 if how == "high" else chance.randrange(256)
    return bytes(body)
