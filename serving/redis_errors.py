"""Which of Redis' error replies pass by themselves: a replica made primary, a full memory, a failed save.

A caller waits for those as it waits for a server that does not answer. The rest are the caller's or the
operator's mistake, and waiting would hide it.
"""

from __future__ import annotations

import re

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["TRANSIENT", "passes"]

TRANSIENT = (RedisConnectionError, RedisTimeoutError, BusyLoadingError)
_PASSING = (*TRANSIENT, ReadOnlyError, OutOfMemoryError, ClusterDownError, TryAgainError)
# The client knows some codes as classes and leaves others in the text. A script that fails half-way gives
# the code of the command inside it, behind a dash with older servers.
_CODES = re.compile(
    r"(?:^|[ :]-)(?:READONLY|OOM|MISCONF|MASTERDOWN|LOADING|BUSY|CLUSTERDOWN|NOREPLICAS|TRYAGAIN)\b"
)
_OF_PIPELINE = " of pipeline caused error: "  # before it stands the command, with the rows that it brought


def passes(error: RedisError) -> bool:
    """Whether trying again later can help."""
    return isinstance(error, _PASSING) or bool(_CODES.search(str(error).rpartition(_OF_PIPELINE)[2]))
