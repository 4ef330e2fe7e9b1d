"""Secrets are settings by reference: where they are, never what they are."""

from __future__ import annotations

import os
from pathlib import Path

from headgate.errors import SettingsError

__all__ = ["read_secret"]


def read_secret(reference: str, home: Path) -> str:
    """Read `env:NAME` or `file:PATH`; the value is never part of an error."""
    kind, _, rest = reference.partition(":")
    if kind == "env" and rest:
        value = os.environ.get(rest)
        if value is None:
            raise SettingsError(
                f"the secret {reference!r} is not there: the environment has no variable {rest}",
                help=f"export {rest}=…",
            )
        return value
    if kind == "file" and rest:
        path = home / rest
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"the secret {reference!r} cannot be read: {error.strerror}",
                help=f"write it to {path} with mode 0600, or run `headgate up`, which makes its own",
            ) from error
    raise SettingsError("a secret is given as a value", expected="a reference, env:NAME or file:PATH")
