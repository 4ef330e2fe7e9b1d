"""Results: the newest of each measurement is kept in results.json, and rendered to RESULTS.md."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.lanes import LANE_JOBS
from bench.machine import machine, versions

__all__ = ["TEXT", "append", "recorded", "render", "results_text"]

_FOLDER = Path(__file__).parent
RESULTS = _FOLDER / "results.json"
TEXT = _FOLDER / "RESULTS.md"

_SIDES = ("plain", "jvm", "arrow")
_METHOD = """\
How it is measured. Every part runs on a broker and a Redis of its own, on the machine that it measures.
All sides of a throughput job read the same topic with the same master (`local[2]`), memory (3g) and
records per batch; they run in turn, and the first batch of each run is left out. A rate is taken from the
times of Spark's commit files, of the slowest query where there are several. Before a rate counts, the
tables are read back: every good record once, every bad one in the quarantine, every closed window with
the count that a recount of the input gives.
"""

_PEERS = """\
PyFlink runs its SQL in one JVM with two slots, the same heap, object reuse and exactly-once checkpoints;
like the hand-written Spark jobs it has no rules, no quarantine and no metrics, which headgate has. It writes
Parquet files, which a checkpoint commits: no jar of Delta's connector for this Flink is published, and to
commit files is less work than to commit them to a Delta table. Its rate is taken from the offsets that
completed checkpoints commit to Kafka, from the first checkpoint that has as many records as the others' first
batch to the last one before the end of the topic, so that neither the start nor the wait for the last
checkpoint counts. Its files are read back like the others' tables; the end of the topic closes every window.
"""


def append(result: Mapping[str, Any]) -> None:
    """Put one result, with the machine and the versions it was measured on, in the place of an older one."""
    found = {_name(each): each for each in recorded()}
    found[_name(result)] = {**result, "machine": machine(), "versions": versions()}
    RESULTS.write_text(json.dumps([*found.values()], indent=1) + "\n", encoding="utf-8")


def render() -> None:
    TEXT.write_text(results_text(recorded()), encoding="utf-8")


def recorded() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []


def _name(result: Mapping[str, Any]) -> tuple[str, str]:
    return result["part"], result["job"]


def results_text(results: Sequence[Mapping[str, Any]]) -> str:
    """RESULTS.md: the newest result of each measurement."""
    newest = {_name(each): each for each in results}
    lines = ["# Benchmark", "", "Made by `make bench`; do not edit.", "", _METHOD]
    if not newest:
        return "\n".join([*lines, "No run is recorded yet.", ""])
    last = max(newest.values(), key=lambda each: each["at"])
    lines += [_machine_line(last["machine"]), "", _version_line(last["versions"]), ""]
    for title, part, table in _SECTIONS:
        rows = [each for (p, _), each in newest.items() if p in part]
        if rows:
            lines += [f"## {title}", "", *table(rows), ""]
    lines += ["## Commands", "", *_commands(list(newest.values())), ""]
    return "\n".join(lines)


def _machine_line(found: Mapping[str, Any]) -> str:
    return (
        f"Machine: {found['processor']}, {found['cores']} cores, {found['memory_gib']:.0f} GiB, "
        f"{found['system']}, {found['filesystem']}."
    )


def _version_line(found: Mapping[str, str]) -> str:
    return "Versions: " + ", ".join(f"{name} {value}" for name, value in found.items()) + "."


def _throughput(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| job | records | bad | plain, records/s | headgate, records/s | ratio | to reach |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in rows:
        sides = [_with_spread(each[side]) for side in ("plain", "headgate")]
        lines.append(
            f"| {each['job']} | {each['records']:,} | {each['bad']:,} | {sides[0]} | {sides[1]} "
            f"| {each['ratio']:.2f} | {each['target']:.2f} |"
        )
    return [*lines, "", "Median of the runs, and their spread in brackets."]


def _lanes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| job | records | bad | plain, records/s | JVM lane | Arrow lane | JVM : plain | Arrow : plain "
        "| to reach |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in rows:
        sides = " | ".join(_with_spread(each[side]) if side in each else "" for side in _SIDES)
        lines.append(
            f"| {each['job'].removeprefix('lanes-')} | {each['records']:,} | {each['bad']:,} | {sides} "
            f"| {each['jvm_ratio']:.2f} | {each['arrow_ratio']:.2f} | {_target(each)} |"
        )
    return [
        *lines,
        "",
        "Median of the runs, and their spread in brackets. Windows are computed by Spark in either lane; "
        "what has a lane there is how their records are read and screened. The hand-written job screens "
        "nothing, and keeps bad records; it reads JSON with `from_json`, Avro with `from_avro`, and "
        "Protobuf, for which this Spark has no reader, with Google's library in `mapInArrow`.",
        *_taken(rows),
    ]


def _taken(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each side takes of the machine."""
    seen = [each for each in rows if "processor" in each["plain"]]
    if not seen:
        return []
    lines = [
        "",
        "| job | processor seconds per million records: plain | JVM lane | Arrow lane "
        "| resident memory at most: plain | JVM lane | Arrow lane |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in seen:
        sides = [each.get(side) for side in _SIDES]
        spent = " | ".join(f"{side['processor']:.1f}" if side else "" for side in sides)
        most = " | ".join(f"{side['resident'] / 2**20:,.0f} MiB" if side else "" for side in sides)
        lines.append(f"| {each['job'].removeprefix('lanes-')} | {spent} | {most} |")
    return [
        *lines,
        "",
        "Of all processes of a side: their seconds while its rate is taken, the mean of the runs; their "
        "memory from start to end, the most of any run, Python workers with their share of it.",
    ]


def _target(result: Mapping[str, Any]) -> str:
    return f"{result['target']:.2f}" if result["target"] else ""


def _peers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| job | records | checkpoint | PyFlink, records/s | headgate, records/s | headgate : PyFlink "
        "| to reach |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in rows:
        sides = " | ".join(_with_spread(each[side]) for side in ("flink", "headgate"))
        job = each["job"].removeprefix("peers-")
        lines.append(
            f"| {job} | {each['records']:,} | {each['interval']:g} s | {sides} | {each['ratio']:.2f} "
            f"| {each['target']:.2f} |"
        )
    lines += ["", "Median of the runs, and their spread in brackets.", "", *_PEERS.splitlines(), ""]
    told = ", ".join(f"{name} {value}" for name, value in rows[-1]["peer"].items())
    return [*lines, *_processor(rows), "", *_hotspots(rows), f"Versions of the other side: {told}."]


def _processor(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the time of each side goes: what says why a ratio is what it is."""
    lines = ["| job | side | seconds of processor per million records | of these |", "|---|---|---:|---|"]
    for each in rows:
        for side, name in (("flink", "PyFlink"), ("headgate", "headgate")):
            spent = each["processor"][side]
            most = sorted(spent.items(), key=lambda item: -item[1])
            told = " · ".join(f"{kind} {seconds:.2f}" for kind, seconds in most if seconds >= 0.01)
            job = each["job"].removeprefix("peers-")
            lines.append(f"| {job} | {name} | {sum(spent.values()):.2f} | {told} |")
    return lines


def _hotspots(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each job that has not reached what it is to reach, where both sides' JVMs are meanwhile."""
    lines = []
    for each in rows:
        for side, name in (("flink", "PyFlink"), ("headgate", "headgate")):
            found = each["hotspots"].get(side, {})
            told = " · ".join(f"{area} {share:.0%}" for area, share in found.items() if share >= 0.01)
            if told:
                lines.append(f"| {each['job'].removeprefix('peers-')} | {name} | {told} |")
    if not lines:
        return []
    head = [
        "| not reached | side | samples of the JVM's threads, by the innermost frame that has a place here |"
    ]
    return [*head, "|---|---|---|", *lines, ""]


def _seconds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| measurement | seconds, median | spread | to reach |", "|---|---:|---:|---:|"]
    for each in rows:
        one = each["seconds"]
        target = f"{each['target']:g}" if each.get("target") else ""
        lines.append(
            f"| {each['title']} | {one['median']:.1f} | {one['least']:.1f}–{one['most']:.1f} | {target} |"
        )
    return lines


def _latency(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| output | records/s | trigger | after | p50 | p95 | p99 | most | to reach |",
        "|---|---:|---|---:|---:|---:|---:|---:|---|",
    ]
    for each in rows:
        after = f"{each['warm']} s"
        times = " | ".join(f"{each[name]:.2f} s" for name in ("p50", "p95", "p99", "most"))
        target = f"p95 {each['target']:g} s" if each.get("target") else ""
        lines.append(
            f"| {each['title']} | {each['rate']:,} | {each['trigger']} | {after} | {times} | {target} |"
        )
    return [
        *lines,
        "",
        "From the moment a record is due to be sent until a result that contains it can be read, without "
        "what a producer's client would wait to fill a batch: in Redis, the published document holds the "
        "record's number or a later one of its partition; in Delta, the commit that brought it is visible."
        " A reader looks every 20 ms. What came before `after` is left out: Java compiles for minutes on "
        "two cores, and until then batches take longer. Runs before 2026-11-23 count from when a record was "
        "given to a client that makes one at a time.",
    ]


def _fencing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| job | records | share of the time, median | spread | at most |", "|---|---:|---:|---:|---:|"]
    for each in rows:
        one = each["share"]
        lines.append(
            f"| {each['title']} | {each['records']:,} | {one['median']:.3%} "
            f"| {one['least']:.3%}–{one['most']:.3%} | {each['target']:.0%} |"
        )
    return [
        *lines,
        "",
        "What all threads of a driver spend on looking at its claim and on its reports, from the first "
        "committed batch to the last.",
    ]


def _memory(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| stream | driver (Python) | JVM | Python workers | together |", "|---|---:|---:|---:|---:|"]
    for each in rows:
        parts = [each[name] for name in ("driver", "jvm", "workers")]
        told = " | ".join(f"{value / 2**20:,.0f} MiB" for value in (*parts, sum(parts)))
        lines.append(f"| {each['title']} | {told} |")
    return [
        *lines,
        "",
        "Resident set size, of Python workers their share of it; the greatest seen in the time. Runs before "
        "2026-11-23 count the pages that workers share once for each of them.",
    ]


_SECTIONS = (
    ("Throughput", ("records", "windows"), _throughput),
    ("Lanes", tuple(LANE_JOBS), _lanes),
    ("Peers", ("peers",), _peers),
    ("Start and recovery", ("start", "recovery"), _seconds),
    ("Latency", ("latency",), _latency),
    ("Fencing", ("fencing",), _fencing),
    ("Memory", ("memory",), _memory),
)


def _commands(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    told: dict[str, float] = {}
    for each in sorted(rows, key=lambda each: each["at"]):
        day = time.strftime("%Y-%m-%d", time.gmtime(each["at"]))
        told.setdefault(f"- `{each['command']}`, {day}", each["machine"]["loop_seconds"])
    speed = "ten million additions in CPython took {:.2f} s"
    return [f"{command}: {speed.format(seconds)}" for command, seconds in told.items()]


def _with_spread(side: Mapping[str, Any]) -> str:
    return f"{side['median']:,.0f} ({side['least']:,.0f}–{side['most']:,.0f})"
