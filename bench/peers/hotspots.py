"""Where the threads of a side's JVM are: what says why a figure is not reached.

In a run that is measured nothing is recorded. Another one is made, whose rate does not count: its JVM keeps a
flight recording of some seconds on the way, which it writes by itself while it still runs.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from headgate.local.java import find_java

__all__ = ["area_of", "read_recording", "recording", "shares", "stacks"]

_SECONDS = 20
# Without the log: some of these JVMs say on their standard output what somebody reads.
_STATEMENT = (
    "-Xlog:jfr+startup=off -XX:StartFlightRecording=settings=profile,delay={}s,duration={}s,filename={}"
)
_OPTIONS = "JAVA_TOOL_OPTIONS"
_SAMPLE, _NATIVE = "jdk.ExecutionSample", "jdk.NativeMethodSample"
_WORKERS = ("Executor task", "stream execution", "Source", "GlobalWindow")
_COMPUTES = ("org.rocksdb.", "org.xerial.snappy.", "com.github.luben.zstd.", "net.jpountz.")
_OTHER = "elsewhere"
# The first, from the innermost frame outwards, that has one of these in it.
_AREAS: Mapping[str, tuple[str, ...]] = {
    "parsing JSON": (
        "jackson.core.",
        "jackson.databind.",
        ".JacksonParser",
        "org.apache.flink.formats.json.",
    ),
    "reading from Kafka": (
        "org.apache.kafka.",
        "org.apache.flink.connector.kafka.",
        "org.apache.spark.sql.kafka010.",
    ),
    "state": ("org.rocksdb.", ".streaming.state.", ".operators.stateful.", "org.apache.flink.runtime.state."),
    "files": ("org.apache.parquet.", "org.apache.flink.formats.parquet.", "org.apache.hadoop.", "io.delta."),
    "shuffle": (
        "org.apache.spark.shuffle.",
        "org.apache.spark.util.collection.",
        "org.apache.flink.runtime.io.network.",
    ),
    "Python workers": (
        "org.apache.spark.api.python.",
        "org.apache.spark.sql.execution.python.",
        "org.apache.arrow.",
    ),
    "windows": (
        "org.apache.flink.table.runtime.operators.",
        "org.apache.flink.table.runtime.util.collections.",
    ),
    "generated code and aggregates": (
        ".GeneratedClass",
        "org.apache.spark.sql.execution.aggregate.",
        "StreamExecCalc",
    ),
    "planning and compiling queries": (
        ".catalyst.trees.",
        ".catalyst.plans.",
        ".catalyst.analysis.",
        ".catalyst.optimizer.",
        ".catalyst.rules.",
        ".codegen.Block",
        ".codegen.Code",
        ".codegen.Generate",
        ".execution.CodegenSupport",
        ".execution.QueryExecution",
        ".execution.adaptive.",
        "org.codehaus.janino.",
        "scala.tools.",
    ),
}


@contextmanager
def recording(file: Path, delay: int) -> Iterator[None]:
    """A JVM that starts within the block records after `delay` seconds, and writes the file if it runs until
    that is over: a driver does, and what looks at a contract before it does not."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    before = os.environ.get(_OPTIONS)
    told = _STATEMENT.format(delay, _SECONDS, file)
    os.environ[_OPTIONS] = f"{before} {told}" if before else told
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OPTIONS]
        else:
            os.environ[_OPTIONS] = before


def read_recording(file: Path) -> dict[str, float]:
    """Shares by area; none where the run was too short to record, or where Java comes without the tool that
    reads recordings (it is part of a JDK)."""
    tool = find_java().home / "bin" / "jfr"
    if not tool.is_file() or not file.is_file() or not file.stat().st_size:
        return {}
    command = [str(tool), "print", "--events", f"{_SAMPLE},{_NATIVE}", "--stack-depth", "64", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return shares(Counter(map(area_of, stacks(done.stdout))))


def stacks(text: str) -> Iterator[list[str]]:
    """The stacks of threads that do the work, in what `jfr print` writes, innermost frame first. A thread in
    native code counts where it computes; most of them wait there."""
    native = counts = inside = False
    frames: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("jdk."):
            native = line.startswith(_NATIVE)
        elif line.startswith("sampledThread = "):
            counts = line.removeprefix('sampledThread = "').startswith(_WORKERS)
        elif line.startswith("stackTrace = ["):
            inside, frames = True, []
        elif inside and line == "]":
            inside = False
            if counts and frames and (not native or frames[0].startswith(_COMPUTES)):
                yield frames
        elif inside:
            frames.append(line)


def area_of(frames: list[str]) -> str:
    for frame in frames:
        for area, marks in _AREAS.items():
            if any(mark in frame for mark in marks):
                return area
    return _OTHER


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Of one, the greatest first."""
    total = sum(counts.values())
    return {area: count / total for area, count in sorted(counts.items(), key=lambda item: -item[1])}
