"""Reads Spark's offset and commit logs of a query, without Spark.

    <checkpoint>/offsets/N   version line, metadata (watermark, time, pinned confs), offsets per source
    <checkpoint>/commits/N   batch N is done

A batch that has offsets and no commit runs again at the next start, with the same offsets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.errors import RefusedError

__all__ = ["CommittedOffsets", "batch_offsets", "batch_watermark", "committed_offsets"]


def batch_watermark(query: Path, batch_id: int) -> float | None:
    lines = (query / "offsets" / str(batch_id)).read_text(encoding="utf-8").splitlines()
    ms = json.loads(lines[1]).get("batchWatermarkMs", 0)
    return ms / 1000 if ms else None
