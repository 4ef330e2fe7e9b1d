"""The real supervisor, with the stand-in driver for Spark and a policy fast enough for tests."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from headgate.settings import load_settings
from headgate.streams.policy import Policy
from headgate.streams.record import Incarnation
from headgate.streams.server import serve

HERE = Path(__file__).parent


def main() -> None:
    settings, _ = load_settings()
    policy = Policy(**json.loads(os.environ.get("TEST_POLICY", "{}")))

    def command(incarnation: Incarnation, pipeline: str) -> list[str]:
        folder = settings.state / "streams" / pipeline
        names = ["--stream", pipeline, "--dir", str(folder), "--contract", incarnation.contract_hash]
        numbers = ["--epoch", str(incarnation.epoch), "--generation", str(incarnation.generation)]
        return [sys.executable, str(HERE / "stand_in_driver.py"), *names, *numbers]

    serve(settings, command=command, policy=policy, lease_ttl=2.0)


if __name__ == "__main__":
    main()
