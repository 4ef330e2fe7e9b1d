"""A driver without Spark, for tests of processes: it reports, commits a batch each second, and stops on
SIGTERM after the batch. Installed as `spark/__main__.py` in the home of a test, where `python -m spark`
finds it first. A file `fail` in the stream's folder makes it end as a driver whose data is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from headgate import __version__
from headgate.settings import load_settings
from headgate.streams.failures import EXIT_FAILED
from headgate.streams.model import DriverStatus, QueryProgress

BATCH_SECONDS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--contract", required=True)
    parser.add_argument("--generation", required=True, type=int)
    parser.add_argument("--epoch", required=True, type=int)
    parser.add_argument("--origin")
    order = parser.parse_args()
    folder = load_settings()[0].state / "streams" / order.pipeline
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))

    def report(phase: str, batch: int, **failure: str) -> None:
        now = time.time()
        query = QueryProgress(batch_id=batch, last_commit_at=now, last_progress_at=now, rows=10)
        status = DriverStatus(
            stream=order.pipeline,
            pipeline=order.pipeline,
            epoch=order.epoch,
            generation=order.generation,
            contract_hash=order.contract,
            lineage="light",
            headgate_version=__version__,
            pid=os.getpid(),
            phase=phase,
            written_at=now,
            ui_url=f"http://127.0.0.1:1/epoch-{order.epoch}",
            queries={"records": query} if batch >= 0 else {},
            **failure,
        )
        _write(folder / "status.json", json.dumps(status.to_json()))

    report("starting", -1)
    batch = 0
    while not asked:
        time.sleep(BATCH_SECONDS)
        if (folder / "fail").exists():
            report(
                "failed",
                batch,
                failure_class="data_loss",
                failure_condition="KAFKA_DATA_LOSS",
                failure_message="offsets 10 to 20 are gone",
            )
            return EXIT_FAILED
        report("running", batch)
        batch += 1
    report("stopped", batch - 1)
    return 0


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
