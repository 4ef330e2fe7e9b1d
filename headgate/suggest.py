"""What somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "did_you_mean"]

_CUTOFF = 0.6  # difflib's own: two letters swapped, added or left out in a short word


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, or None where none is."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=_CUTOFF)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A line of help for an error."""
    found = closest(word, known)
    return f"did you mean `{found}`?" if found else None
