"""Where Prometheus's own binaries are, and what to do when they are not there."""

from __future__ import annotations

import shutil

from headgate.errors import UnavailableError

__all__ = ["promtool"]


def promtool() -> str:
    """The path of promtool, which checks metrics, rules and configurations."""
    found = shutil.which("promtool")
    if found is None:
        raise UnavailableError(
            "promtool is not on the PATH, and rules cannot be checked without it",
            expected="the Debian package prometheus, which brings it",
            help="make setup, or: apt-get install --no-install-recommends prometheus",
        )
    return found
