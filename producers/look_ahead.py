"""Looks at a file's event times before it is sent: what lies behind the stream would be dropped as late."""

from __future__ import annotations

import time
from dataclasses import dataclass

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.logs import committed_offsets
from headgate.contract.model import Source, seconds
from headgate.errors import RefusedError
from headgate.settings import Settings
from producers.datetimes import FIRST, LAST, from_micros, zone_of
from producers.inputs import FileInput, Look

__all__ = ["Place", "ahead_of", "judge", "shift_to", "stream_watermark"]


@dataclass(frozen=True, slots=True)
class Place:
    """What is sent where: names for messages."""

    pipeline: str
    file: str


def stream_watermark(settings: Settings, pipeline: str) -> int | None:
    """The furthest watermark of the pipeline's stateful queries, microseconds; None before the first."""
    layout = CheckpointLayout(settings.checkpoints, pipeline)
    lineage = layout.current_lineage()
    if lineage is None:
        return None
    folder = layout.query(lineage, RECORDS).parent
    found = []
    for query in sorted(folder.iterdir()) if folder.is_dir() else []:
        committed = committed_offsets(query) if query.name != RECORDS else None
        if committed is not None and committed.watermark_ms:
            found.append(committed.watermark_ms * 1000)
    return max(found, default=None)


def judge(place: Place, look: Look, watermark: int | None) -> None:
    """Raises RefusedError when records of the file would be dropped as late."""
    if watermark is None or look.behind == 0 or look.first is None or look.last is None:
        return
    share = "all" if look.behind == look.timed else f"{look.behind} of {look.timed}"
    raise RefusedError(
        f"{place.file} lies behind the stream {place.pipeline!r}: {share} records with a time would be "
        f"dropped as late\n  the file: {_show(look.first)} to {_show(look.last)}"
        f"\n  the stream's watermark: {_show(watermark)}",
        expected="event times at or after the watermark",
        help="choose one:\n"
        "    a pipeline of its own: copy the contract in the pipelines folder under another name, with"
        " another topic, other outputs, then headgate plan && headgate apply\n"
        "    --shift-to-now: move all times so that the last one is now\n"
        "    --late-ok: send it as it is; the late ones are counted, and kept out of the windows",
    )


def shift_to(place: Place, file: FileInput, look: Look, now: int) -> int:
    """By how much all times move so that the last one is now. Raises RefusedError when they cannot."""
    if look.first is None or look.last is None:
        raise RefusedError(
            f"{place.file} cannot be shifted: no record has a time that the contract can read",
            expected="times as the event time column of the contract has them",
        )
    # Whole seconds: a time written without a fraction stays true to the others.
    shift = (now - look.last) // 1_000_000 * 1_000_000
    if look.first + shift < FIRST:
        raise RefusedError(
            f"{place.file} cannot be shifted to now: it would begin before the year 1",
            expected=f"times that belong together, not {_show(look.first)} to {_show(look.last)}",
            help="correct the time that is out of place, or --late-ok",
        )
    for moment in (look.first + shift, look.last + shift):
        if not file.reads_back(moment):
            raise RefusedError(
                f"{place.file} cannot be shifted to now: {_show(moment)}, written as the file writes times, "
                "is read as another time",
                expected="times with a year, or a default_year in the contract that is the current one",
                help="a pipeline of its own, or --late-ok",
            )
    return shift


def ahead_of(source: Source, look: Look) -> str | None:
    """A warning when the file's end lies further ahead than the contract allows."""
    if source.event_time is None or look.last is None:
        return None
    limit = time.time() + seconds(source.event_time.max_future)
    if look.last / 1e6 <= limit:
        return None
    return (
        f"the file ends at {_show(look.last)}, more than {source.event_time.max_future} ahead of now: "
        "such records go to the quarantine as _future"
    )


def _show(micros: int) -> str:
    micros = min(max(micros, FIRST), LAST)  # a zone can push a time out of the calendar
    return from_micros(micros, zone_of("UTC")).strftime("%Y-%m-%d %H:%M:%S UTC")
