"""The real supervisor, with stand-ins for Spark and for what preflight looks at, and a fast policy.

What preflight answers is in `preflight.json` in the stream's folder: {"failure": class, "text": …}; without
the file the stream may start. Each question is noted in `preflights`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from headgate.settings import load_settings
from headgate.streams.model import FailureClass
from headgate.streams.policy import Policy
from headgate.streams.record import Incarnation, StreamRecord
from headgate.streams.server import serve
from headgate.streams.steps import Clearance

HERE = Path(__file__).parent


def main() -> None:
    settings, _ = load_settings()
    policy = Policy(**json.loads(os.environ.get("TEST_POLICY", "{}")))

    def command(incarnation: Incarnation, pipeline: str) -> list[str]:
        folder = settings.state / "streams" / pipeline
        names = ["--stream", pipeline, "--dir", str(folder), "--contract", incarnation.contract_hash]
        numbers = ["--epoch", str(incarnation.epoch), "--generation", str(incarnation.generation)]
        return [sys.executable, str(HERE / "stand_in_driver.py"), *names, *numbers]

    def ask(record: StreamRecord) -> Clearance:
        folder = settings.state / "streams" / record.stream
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "preflights").open("a") as asked:
            asked.write(f"{record.epoch}\n")
        path = folder / "preflight.json"
        if not path.exists():
            return Clearance()
        while (told := json.loads(path.read_text())).get("hangs"):
            time.sleep(0.05)
        return Clearance(FailureClass(told["failure"]), told["text"]) if "failure" in told else Clearance()

    def reserve(memory: str) -> list[str]:
        return [sys.executable, str(HERE / "stand_in_spare.py"), "--memory", memory]

    serve(settings, command=command, reserve=reserve, policy=policy, lease_ttl=2.0, ask=ask)


if __name__ == "__main__":
    main()
