"""A store in the tests' own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_answers import Store, s3_answers


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("LAKE_KEY", "AKIAOFATEST")
    monkeypatch.setenv("LAKE_SECRET", "a-secret")
    with s3_answers(tmp_path) as found:
        yield found
