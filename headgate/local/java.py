"""The Java to run Spark and the broker with: 17 or 21, from JAVA_HOME, the PATH, or Debian's folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from headgate.errors import RefusedError

__all__ = ["SUPPORTED", "Java", "find_java", "parse_version"]

SUPPORTED = (17, 21)
DEBIAN_FOLDER = Path("/usr/lib/jvm")


@dataclass(frozen=True, slots=True)
class Java:
    path: Path
    major: int

    @property
    def home(self) -> Path:
        """What JAVA_HOME has to be for this Java."""
        return self.path.resolve().parent.parent


def parse_version(text: str) -> int | None:
    """The major version in the output of `java -version`."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if match is None:
        return None
    major = int(match.group(1))
    return int(match.group(2) or 0) if major == 1 else major


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """The first supported Java; raises RefusedError that names what was found instead."""
    seen = []
    for path in _candidates(os.environ if environ is None else environ):
        major = _ask(path)
        if major in SUPPORTED:
            return Java(path, major)
        seen.append(f"{path} ({'unusable' if major is None else major})")
    raise RefusedError(
        "no Java that Spark runs on was found" + (f": {', '.join(seen)}" if seen else ""),
        expected="Java 17 or 21, in JAVA_HOME, on the PATH or in /usr/lib/jvm",
        help="apt-get install openjdk-17-jre-headless, or set JAVA_HOME",
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    tried: set[Path] = set()
    paths = []
    if environ.get("JAVA_HOME"):
        paths.append(Path(environ["JAVA_HOME"]) / "bin" / "java")
    on_path = shutil.which("java", path=environ.get("PATH"))
    if on_path:
        paths.append(Path(on_path))
    if DEBIAN_FOLDER.is_dir():
        paths += [folder / "bin" / "java" for folder in sorted(DEBIAN_FOLDER.iterdir())]
    for path in paths:
        if path.is_file() and path.resolve() not in tried:
            tried.add(path.resolve())
            yield path


@cache
def _ask(path: Path) -> int | None:
    try:
        done = subprocess.run(
            [str(path), "-version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stderr + done.stdout)
