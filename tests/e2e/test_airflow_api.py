"""Airflow's API server on SQLite, with many hands on it at once; no other part of Airflow runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from live_airflow import LiveAirflow

from headgate.settings import load_settings

HANDS = 8
WRITES = 12
# An answer takes milliseconds. What is measured is not speed: an API server that waits for itself gives
# no answer before SQLite's limit for a busy database, a minute.
DEADLINE = 40.0


@pytest.fixture(scope="module")
def airflow(private_environ: Callable[[str], dict[str, str]], poll_until: Any) -> Iterator[LiveAirflow]:
    environ = private_environ("airflow-api")
    settings, _ = load_settings(environ=environ)
    live = LiveAirflow(settings, environ)
    try:
        live.start("api-server")
        poll_until(live.health, 180.0, "the API server answers")
        yield live
    finally:
        live.stop()


def test_writes_of_many_clients_at_once_never_hang_the_server(airflow: LiveAirflow) -> None:
    token = airflow.token()

    def write(hand: int) -> list[int]:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{airflow.home.url}/api/v2/variables"
        with httpx.Client(headers=headers, timeout=DEADLINE, trust_env=False) as client:
            return [
                client.post(url, json={"key": f"{hand}-{number}", "value": "1"}).status_code
                for number in range(WRITES)
            ]

    with ThreadPoolExecutor(HANDS) as hands:
        answers = list(hands.map(write, range(HANDS)))
    assert answers == [[201] * WRITES] * HANDS
