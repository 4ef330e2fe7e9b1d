"""A program run to its end, with a limit: one that hangs is an error that says so."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from headgate.errors import ServiceError

__all__ = ["run_within"]


def run_within(
    seconds: float, what: str, command: Sequence[str], environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it with its output captured; at the limit it is killed. Raises ServiceError."""
    try:
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceError(
            f"{what} did not end within {seconds:g} s and was killed",
            help="try again; headgate doctor shows whether memory or disk is short",
        ) from error
