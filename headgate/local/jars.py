"""The jars that are not in the pyspark wheel: fetched once, checked against a committed lock.

`python -m headgate.local.jars fetch` brings what is missing with the Ivy inside the pyspark wheel;
`… check` only looks. Every jar is listed by itself, nothing is resolved transitively, so what
arrives is what the lock names. A stamp (size and modification time of each verified jar) makes
the second run a matter of milliseconds.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from headgate.errors import HeadgateError, RefusedError, UnavailableError
from headgate.local.java import find_java
from headgate.settings import Settings, load_settings

__all__ = ["Jar", "JarSet", "fetch", "ivy_module", "jar_sets", "missing", "parse_lock", "registry_set"]

LOCKS = Path(__file__).parent / "locks"
STAMP = ".verified.json"
FETCH_SECONDS = 600
_LINE = r"([\w.-]+):([\w.-]+):([\w.-]+)(?::([\w.-]+))?(?:@([\w.]+))?\s+([0-9a-f]{64})"
# Without POMs: a lock has no dependencies to follow, and each POM would drag its parents in.
IVY_SETTINGS = (
    '<ivysettings><settings defaultResolver="central"/><resolvers>'
    '<ibiblio name="central" m2compatible="true" usepoms="false"/>'
    "</resolvers></ivysettings>\n"
)


@dataclass(frozen=True, slots=True)
class Jar:
    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    ext: str = "jar"

    @property
    def file_name(self) -> str:
        tail = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{tail}.{self.ext}"

    @property
    def coordinates(self) -> str:
        return ":".join(part for part in (self.group, self.artifact, self.version, self.classifier) if part)


@dataclass(frozen=True, slots=True)
class JarSet:
    """One lock and the folder that has to hold exactly its jars."""

    name: str
    folder: Path
    jars: tuple[Jar, ...]


def parse_lock(text: str) -> tuple[Jar, ...]:
    """Read `group:artifact:version[:classifier][@extension] sha256` lines; `#` starts a comment."""
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = re.fullmatch(_LINE, content)
        if match is None:
            raise RefusedError(
                f"line {number} of a jar lock cannot be read: {content!r}",
                expected="group:artifact:version[:classifier][@extension] sha256",
            )
        group, artifact, version, classifier, ext, digest = match.groups()
        jars.append(Jar(group, artifact, version, classifier or "", digest, ext or "jar"))
    return tuple(jars)


def jar_sets(settings: Settings) -> tuple[JarSet, ...]:
    """The sets of this installation: Spark's where `spark.jars` says, the broker's beside it."""
    spark = settings.jars_dir
    folders = {"spark": spark, "kafka": spark.parent / "kafka"}
    return tuple(
        JarSet(name, folder, parse_lock((LOCKS / f"{name}.lock").read_text(encoding="utf-8")))
        for name, folder in folders.items()
    )


def registry_set(settings: Settings) -> JarSet:
    """The schema registry that the tests run: nothing of an installation needs it."""
    text = (LOCKS / "registry.lock").read_text(encoding="utf-8")
    return JarSet("registry", settings.jars_dir.parent / "registry", parse_lock(text))


def missing(jar_set: JarSet) -> list[Jar]:
    """The jars that are absent or not what the lock says; hashes only what the stamp does not vouch for."""
    stamp = _read_stamp(jar_set.folder)
    return [jar for jar in jar_set.jars if not _verified(jar_set.folder / jar.file_name, jar, stamp)]


def fetch(jar_set: JarSet) -> list[Jar]:
    """Make the folder hold the locked jars; returns those that were fetched. Idempotent.

    A jar is moved into place only after its hash was checked, so that an interrupted fetch never
    leaves a half jar behind. Jars of an older lock are removed, others in the folder are left alone.
    """
    absent = missing(jar_set)
    before = set(_read_stamp(jar_set.folder))
    wanted = {jar.file_name for jar in jar_set.jars}
    if absent:
        jar_set.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=jar_set.folder) as folder:
            _download(absent, Path(folder))
            for jar in absent:
                _accept(Path(folder) / "jars" / jar.file_name, jar_set.folder / jar.file_name, jar)
    for stale in before - wanted:
        (jar_set.folder / stale).unlink(missing_ok=True)
    _write_stamp(jar_set)
    return absent


def ivy_module(jars: Sequence[Jar]) -> str:
    """An ivy.xml that names each jar by itself."""
    lines = [
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">'
        '<info organisation="headgate" module="jars"/>',
        "<dependencies>",
    ]
    for jar in jars:
        name = quoteattr(jar.artifact)
        classifier = f" m:classifier={quoteattr(jar.classifier)}" if jar.classifier else ""
        lines.append(
            f"<dependency org={quoteattr(jar.group)} name={name} rev={quoteattr(jar.version)}"
            ' transitive="false">'
            f'<artifact name={name} type="{jar.ext}" ext="{jar.ext}"{classifier}/></dependency>'
        )
    return "\n".join([*lines, "</dependencies></ivy-module>", ""])


def _download(jars: Sequence[Jar], folder: Path) -> None:
    (folder / "ivy.xml").write_text(ivy_module(jars), encoding="utf-8")
    (folder / "ivysettings.xml").write_text(IVY_SETTINGS, encoding="utf-8")
    # JAVA_TOOL_OPTIONS of the caller still applies, so a proxy or trust store set there is used.
    command = [str(find_java().path), f"-Divy.default.ivy.user.dir={folder / 'ivy'}", "-jar", str(_ivy_jar())]
    command += ["-settings", str(folder / "ivysettings.xml"), "-cache", str(folder / "cache")]
    command += ["-ivy", str(folder / "ivy.xml"), "-confs", "default"]
    command += ["-retrieve", str(folder / "jars" / "[artifact]-[revision](-[classifier]).[ext]")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"fetching {len(jars)} jars took longer than {FETCH_SECONDS} s", help="run `make jars` again"
        ) from error
    absent = [jar for jar in jars if not (folder / "jars" / jar.file_name).is_file()]
    if done.returncode != 0 or absent:
        names = ", ".join(jar.coordinates for jar in absent[:3]) + (" …" if len(absent) > 3 else "")
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip("\t .-|")]
        raise UnavailableError(
            f"{len(absent)} of {len(jars)} jars could not be fetched: {names}\n  "
            + "\n  ".join(line.strip() for line in lines[-6:]),
            expected="access to Maven Central, directly or through the JVM's proxy settings",
            help="check the network and run `make jars` again",
        )


def _ivy_jar() -> Path:
    spec = importlib.util.find_spec("pyspark")  # finds the wheel without importing it
    if spec is None or spec.origin is None:
        raise RefusedError("pyspark is not installed", help="make setup")
    found = sorted((Path(spec.origin).parent / "jars").glob("ivy-*.jar"))
    if not found:
        raise RefusedError(f"there is no Ivy in {Path(spec.origin).parent / 'jars'}", help="make setup")
    return found[-1]


def _accept(source: Path, target: Path, jar: Jar) -> None:
    found = _sha256(source)
    if found != jar.sha256:
        raise RefusedError(
            f"{jar.coordinates} is not the jar that was locked: its SHA-256 is {found}",
            expected=jar.sha256,
            help="do not use it; if the lock is wrong, correct headgate/local/locks in a reviewed change",
        )
    source.replace(target)


def _verified(path: Path, jar: Jar, stamp: dict[str, list[object]]) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    if stamp.get(path.name) == [now.st_size, now.st_mtime_ns, jar.sha256]:
        return True
    return _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_stamp(folder: Path) -> dict[str, list[object]]:
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # an unreadable stamp only costs one hashing of the folder
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(jar_set: JarSet) -> None:
    stamp = {}
    for jar in jar_set.jars:
        now = (jar_set.folder / jar.file_name).stat()
        stamp[jar.file_name] = [now.st_size, now.st_mtime_ns, jar.sha256]
    if stamp == _read_stamp(jar_set.folder) or not os.access(jar_set.folder, os.W_OK):
        return  # without write access the folder is somebody else's: verified by hash each time
    temporary = jar_set.folder / f"{STAMP}.{os.getpid()}"
    temporary.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    temporary.replace(jar_set.folder / STAMP)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m headgate.local.jars", description=__doc__)
    parser.add_argument("action", choices=["fetch", "check"])
    parser.add_argument("--registry", action="store_true", help="that of the tests' registry alone")
    options = parser.parse_args(arguments)
    action = options.action
    try:
        settings, _ = load_settings()
        absent = 0
        for jar_set in [registry_set(settings)] if options.registry else jar_sets(settings):
            if action == "fetch":
                done = fetch(jar_set)
                text = f"fetched {len(done)}" if done else "nothing to do"
            else:
                lacking = missing(jar_set)
                absent += len(lacking)
                text = "complete" if not lacking else f"{len(lacking)} missing or wrong: `make jars`"
            sys.stdout.write(f"{jar_set.name} jars ({len(jar_set.jars)}) in {jar_set.folder}: {text}\n")
    except HeadgateError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 1 if absent else 0


if __name__ == "__main__":
    sys.exit(main())
