"""PyFlink's own environment and jars, from locks of their own; set up by `tools/setup.sh --peers`.

var/bench/flink/venv     apache-flink and what it pins (bench/peers/requirements.lock)
var/bench/flink/jars     connectors and formats (bench/peers/flink.lock)
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.place import CHECKOUT
from headgate.errors import HeadgateError, UnavailableError
from headgate.local.jars import Jar, JarSet, fetch, missing, parse_lock

__all__ = ["FlinkHome", "find_flink", "flink_jars", "locked_versions", "versions"]

_LOCKS = Path(__file__).parent
_ROOT = CHECKOUT / "var" / "bench" / "flink"
# Hadoop's classes are for Flink as a whole, as HADOOP_CLASSPATH; what is a connector goes with the job.
_CONNECTORS = ("flink-sql-connector-kafka", "flink-sql-parquet")


@dataclass(frozen=True, slots=True)
class FlinkHome:
    python: Path
    connectors: tuple[Path, ...]
    hadoop: tuple[Path, ...]


def flink_jars() -> JarSet:
    text = (_LOCKS / "flink.lock").read_text(encoding="utf-8")
    return JarSet("flink", _ROOT / "jars", parse_lock(text))


def find_flink() -> FlinkHome:
    """Ends the benchmark where PyFlink is not set up."""
    python, jars = _ROOT / "venv" / "bin" / "python", flink_jars()
    if not python.is_file() or missing(jars):
        raise SystemExit(
            f"error: PyFlink is not set up in {_ROOT}\n"
            "  expected: the packages and jars of the locks in bench/peers\n"
            "  help: make bench-peers"
        )
    paths = {jar: jars.folder / jar.file_name for jar in jars.jars}
    return FlinkHome(
        python,
        tuple(path for jar, path in paths.items() if jar.artifact in _CONNECTORS),
        tuple(path for jar, path in paths.items() if jar.artifact not in _CONNECTORS),
    )


def versions(requirements: str, jars: tuple[Jar, ...]) -> dict[str, str]:
    """What a result was measured with, from the texts of the locks."""
    match = re.search(r"^apache-flink==(\S+)", requirements, re.MULTILINE)
    if match is None:
        raise ValueError("the lock of PyFlink names no apache-flink")
    return {"PyFlink": match[1]} | {jar.artifact: jar.version for jar in jars if jar.artifact in _CONNECTORS}


def locked_versions() -> dict[str, str]:
    text = (_LOCKS / "requirements.lock").read_text(encoding="utf-8")
    return versions(text, flink_jars().jars)


def main() -> int:
    """Fetch the jars; idempotent."""
    try:
        done = fetch(flink_jars())
    except HeadgateError as error:
        if isinstance(error, UnavailableError):
            error.help = "check the network and run `make bench-peers` again"
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"flink jars: {f'fetched {len(done)}' if done else 'nothing to do'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
