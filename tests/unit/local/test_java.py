from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import RefusedError
from headgate.local import java
from headgate.local.java import find_java, parse_version


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_402"', 8),
        ("command not found", None),
    ],
)
def test_the_major_version_is_read(text: str, major: int | None) -> None:
    assert parse_version(text) == major


def _java(folder: Path, version: str) -> Path:
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "DEBIAN_FOLDER", tmp_path / "none")
    first, second = _java(tmp_path / "a", "21.0.1"), _java(tmp_path / "b", "17.0.1")
    environ = {"JAVA_HOME": str(tmp_path / "a"), "PATH": str(second.parent)}
    assert find_java(environ).path == first
    assert find_java({"PATH": str(second.parent)}).major == 17


def test_an_unsupported_java_is_passed_over_for_one_in_debians_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "DEBIAN_FOLDER", tmp_path / "jvm")
    old = _java(tmp_path / "old", "11.0.2")
    good = _java(tmp_path / "jvm" / "java-17", "17.0.2")
    assert find_java({"PATH": str(old.parent)}).path == good


def test_without_a_supported_java_the_error_says_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "DEBIAN_FOLDER", tmp_path / "none")
    old = _java(tmp_path / "old", "11.0.2")
    with pytest.raises(RefusedError, match=r"\(11\)") as caught:
        find_java({"PATH": str(old.parent)})
    assert "openjdk-17-jre-headless" in str(caught.value)
