"""`python -m spark --pipeline NAME --contract HASH --generation N --epoch E`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from headgate.errors import HeadgateError
from headgate.settings import load_settings
from spark.driver import run_driver
from spark.incarnation import Order
from spark.logs import begin_log


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spark", description="One driver of one stream.")
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--contract", required=True, help="hash of an applied contract")
    parser.add_argument("--generation", required=True, type=int)
    parser.add_argument("--epoch", required=True, type=int)
    parser.add_argument("--origin", help="a file: where this generation begins, if not at its checkpoint")
    arguments = parser.parse_args(given)
    begin_log()
    try:
        settings, _ = load_settings()
    except HeadgateError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    order = Order(
        arguments.pipeline, arguments.contract, arguments.generation, arguments.epoch, arguments.origin
    )
    return run_driver(settings, order)


if __name__ == "__main__":
    sys.exit(main())
