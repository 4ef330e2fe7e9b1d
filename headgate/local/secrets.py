"""The embedded services' own secrets: made once, at random, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

from headgate.settings import Settings

__all__ = ["ensure", "ensure_file", "fernet_key", "password", "signing_key", "write_private"]


def ensure(settings: Settings, reference: str, make: Callable[[], str]) -> str:
    """The secret behind a reference; one in a file below the state root is made when it is missing."""
    kind, _, rest = reference.replace("{state}", str(settings.state)).partition(":")
    if kind == "file":
        path = settings.home / rest
        if path.is_relative_to(settings.state):
            return ensure_file(path, make)
    return settings.secret(reference)


def ensure_file(path: Path, make: Callable[[], str]) -> str:
    """The secret in this file, which is made when it is not there."""
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        write_private(path, make() + "\n")
    return path.read_text(encoding="utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Write the file for its owner alone; nobody can read it at any moment in between."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def password() -> str:
    return secrets.token_urlsafe(18)


def signing_key() -> str:
    """As long as the hash that signs with it, HS512."""
    return secrets.token_urlsafe(64)


def fernet_key() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()
