"""What a store of S3 answers, as an error of headgate's that says where and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from headgate.errors import HeadgateError, TablesUnavailable
from headgate.tables.place import S3Folder

__all__ = [
    "StoreDenied",
    "answer_of",
    "answered",
    "cause_of",
    "first_line",
    "is_denial",
    "masked",
    "unavailable",
]

# Where a library keeps no type for it: of a list, of one key among several, and of what is sent at the end.
# A token that has expired is none of these: a driver reads its references anew when it starts again.
_DENIAL = re.compile(
    r"\b40[13] (?:Unauthorized|Forbidden)|\bAccessDenied\b|lacked the necessary privileges"
    r"|lacked valid authentication|AWS Error ACCESS_DENIED"
)
# A store repeats the request that it does not take, and with it the token that it was signed with.
_TOKEN = re.compile(
    r"(<(?:Token-\d+|CanonicalRequestBytes)>)[^<]*|(x-amz-security-token\s*[:=]\s*)[^\s&<]+", re.IGNORECASE
)
_ARROWS = re.compile(r"\x1b\[\d+m|↳")


class StoreDenied(HeadgateError):
    """The credentials may not do what tables need; no patience helps."""


@contextmanager
def answered(place: S3Folder) -> Iterator[None]:
    """Raises StoreDenied and TablesUnavailable, which show no token; a FileNotFoundError goes on as it is."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (HeadgateError, FileNotFoundError):
        raise
    except (BaseError, OSError) as error:
        raise answer_of(place, error) from cause_of(error)


def answer_of(place: S3Folder, error: Exception) -> StoreDenied | TablesUnavailable:
    return (_denied if is_denial(error) else unavailable)(place, error)


def is_denial(error: Exception) -> bool:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    typed = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    return typed or _DENIAL.search(str(error)) is not None


def _denied(place: S3Folder, error: Exception) -> StoreDenied:
    return StoreDenied(
        f"{place}: the store does not let us: {first_line(error)}",
        expected="credentials that may put, read, list and delete objects below roots.tables",
        help="correct [s3] or the rights of its credentials; then headgate doctor",
    )


def unavailable(place: S3Folder, error: Exception) -> TablesUnavailable:
    return TablesUnavailable(
        f"{place} cannot be reached: {first_line(error)}",
        expected=f"a store that answers at {place.access.endpoint or 'the address of AWS'}, "
        "with the credentials of [s3]",
        help="headgate doctor",
    )


def first_line(error: Exception) -> str:
    """What comes before the first empty line: deltalake sets each cause in a line of its own."""
    first = _ARROWS.sub("", masked(str(error)).strip()).partition("\n\n")[0]
    lines = [line.strip() for line in first.splitlines()]
    return ": ".join(line for line in lines if line) or type(error).__name__


def masked(text: str) -> str:
    """Without the tokens of a session that a store has repeated."""
    return _TOKEN.sub(lambda found: f"{found[1] or found[2]}…", text)


def cause_of(error: Exception) -> Exception | None:
    """What an error that tells of this one is raised from: nothing where its own text shows a token."""
    return error if masked(str(error)) == str(error) else None
