"""Monitoring over a real stream: Spark driver, supervisor, exporter, Prometheus, Alertmanager, Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from watched_platform import CONTRACT, PIPELINE, WatchedPlatform, fetch, fetch_text, until

from monitoring.dashboards import dashboards

CHROMIUM_ARGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
BAD_RECORDS = (
    b"not json",
    b'{"timestamp": "2026-01-01 00:00:00"}',
    b'{"timestamp": "2026-01-01 00:00:00", "value": -1}',
)


@pytest.fixture(scope="module")
def platform(
    private_environ: Callable[[str], dict[str, str]],
    broker: Any,
    redis_server: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[WatchedPlatform]:
    """One stream that runs, with good and bad records, watched by everything."""
    contracts = tmp_path_factory.mktemp("contracts")
    (contracts / f"{PIPELINE}.yaml").write_text(CONTRACT.format(pipeline=PIPELINE), encoding="utf-8")
    environ = {
        **private_environ("monitoring"),
        "HEADGATE_KAFKA_BROKERS": broker.bootstrap,
        "HEADGATE_REDIS_URL": redis_server.url,
        "HEADGATE_PIPELINES": str(contracts),
    }
    with WatchedPlatform(environ) as platform:
        platform.start_exporter()
        platform.start_prometheus()
        platform.start_supervisor()
        platform.headgate("apply")
        platform.headgate("start", PIPELINE, "--wait", "150")
        platform.run("produce", "produce", PIPELINE, "--rate", "20")
        platform.send(*BAD_RECORDS)
        until("rows in the books", lambda: (platform.status().get("rows_quarantined") or 0) >= 3, 120)
        yield platform


def test_what_the_exporter_tells_is_what_the_stream_does(platform: WatchedPlatform) -> None:
    now = platform.status()
    assert (now["state"], now["desired"], now["driver_alive"]) == ("running", "running", True)
    assert now["rows_read"] == now["rows_good"] + now["rows_quarantined"]
    assert now["generation"] == 1 and now["epoch"] >= 1
    assert now["rules"]["not_negative"] == 1
    assert [query["query"] for query in now["queries"]] == ["records", "average"]
    later = until("more rows", lambda: (s := platform.status())["rows_read"] > now["rows_read"] and s, 60)
    assert later["rows_quarantined"] == 3
    assert later["last_commit"] > now["last_commit"]


def test_the_command_line_tells_the_same_and_exits_0(platform: WatchedPlatform) -> None:
    answer = json.loads(platform.headgate("status", "--json").stdout)
    assert [item["pipeline"] for item in answer] == [PIPELINE]
    assert answer[0]["state"] == "running" and answer[0]["rows_quarantined"] == 3
    text = platform.headgate("status", PIPELINE).stdout
    assert "running" in text and "records" in text


def test_an_unknown_pipeline_is_exit_4(platform: WatchedPlatform) -> None:
    run = platform.headgate("status", "nothing", check=False)
    assert run.returncode == 4 and PIPELINE in run.stderr


def test_prometheus_finds_and_scrapes_every_process(platform: WatchedPlatform) -> None:
    def jobs() -> set[str]:
        return {sample["metric"]["job"] for sample in platform.query("up == 1")}

    wanted = {"headgate-exporter", "headgate-drivers", "headgate-producers", "prometheus"}
    until("all targets are up", lambda: wanted <= jobs(), 90)
    driver = platform.query('up{job="headgate-drivers"}')[0]["metric"]
    assert (driver["pipeline"], driver["instance"]) == (PIPELINE, f"driver-{PIPELINE}")


def test_the_books_balance_from_outside(platform: WatchedPlatform) -> None:
    expr = f'headgate_conservation_difference{{pipeline="{PIPELINE}",job="headgate-exporter"}}'
    found = until("the exporter's own count", lambda: platform.query(expr), 60)
    assert [sample["value"][1] for sample in found] == ["0"]


def test_every_panel_of_the_pipeline_has_data(platform: WatchedPlatform) -> None:
    platform.judge("passed", "")
    queries = {
        (panel["title"], target["refId"]): target["expr"]
        .replace("$pipeline", PIPELINE)
        .replace("$__rate_interval", "1m")
        for panel in dashboards()["pipeline.json"]["panels"]
        for target in panel.get("targets", ())
    }

    def empty() -> list[tuple[str, str]]:
        return [name for name, expr in queries.items() if not platform.query(expr)]

    # A query reports that it is idle only when nothing comes, which the running producer prevents.
    until("all panels", lambda: set(empty()) <= {("Since the last word of a query", "B")}, 90)


def test_a_failed_check_reaches_the_alertmanager_and_ends_when_it_passes(platform: WatchedPlatform) -> None:
    platform.judge("failed", "critical")
    alert = until("QualityFailed", lambda: platform.firing().get("QualityFailed"), 90)
    assert alert["labels"]["pipeline"] == PIPELINE
    assert f"headgate check {PIPELINE}" in alert["annotations"]["summary"]
    assert "<h2>Diagnosis</h2>" in fetch_text(alert["annotations"]["runbook_url"])

    def notified() -> bool:
        alerts = fetch(f"{platform.alertmanager}/api/v2/alerts")
        return any(item["labels"]["alertname"] == "QualityFailed" for item in alerts)

    until("the Alertmanager has it", notified, 60)
    platform.judge("passed", "")
    until("it ends", lambda: "QualityFailed" not in platform.firing(), 90)


@pytest.mark.parametrize(
    "screen", [("wide", 1280, 900, "light"), ("phone", 360, 740, "dark")], ids=lambda screen: screen[0]
)
def test_the_status_page_in_chromium(
    platform: WatchedPlatform, tmp_path: Path, screen: tuple[str, int, int, Any]
) -> None:
    name, width, height, scheme = screen
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "install it: apt-get install --no-install-recommends chromium"
    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        try:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
            )
            page = context.new_page()
            page.on(
                "console", lambda message: troubles.append(message.text) if message.type == "error" else None
            )
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.goto(platform.exporter)
            card = page.locator(f"#stream-{PIPELINE}")
            assert "running" in card.locator("h2").inner_text()
            before = int(_figure(card, "Rows read"))
            assert _figure(card, "Quarantined").startswith("3 ")
            assert card.locator("time").count() >= 1
            page.wait_for_function(
                f"""() => Number([...document.querySelectorAll("#stream-{PIPELINE} dl div")]
                .find(d => d.innerText.startsWith("Rows read")).querySelector("dd").innerText
                .replace(/\\D/g, "")) > {before}""",
                timeout=60_000,
            )
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        finally:
            browser.close()
    assert troubles == []
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def _figure(card: Any, title: str) -> str:
    text: str = card.locator("dl div", has_text=title).locator("dd").first.inner_text()
    return text.replace("\u202f", "")


def test_the_status_page_is_whole_without_javascript(platform: WatchedPlatform) -> None:
    page = fetch_text(platform.exporter)
    assert f"stream-{PIPELINE}" in page and "running" in page and 'http-equiv="refresh"' in page


def test_a_dead_kafka_makes_the_lag_unknown_and_a_scrape_does_not_wait(
    platform: WatchedPlatform, private_environ: Callable[[str], dict[str, str]]
) -> None:
    ports = private_environ("monitoring-blind")
    port = ports["HEADGATE_EXPORTER_PORT"]
    nobody = f"127.0.0.1:{ports['HEADGATE_SERVING_PORT']}"
    platform.run("blind", "exporter", HEADGATE_EXPORTER_PORT=port, HEADGATE_KAFKA_BROKERS=nobody)
    try:
        url = f"http://127.0.0.1:{port}"
        until("the exporter answers", lambda: fetch(f"{url}/healthz"))
        begun = time.monotonic()
        fetch_text(f"{url}/metrics")
        assert time.monotonic() - begun < 5

        def settled() -> dict[str, Any]:
            """All that can be known is known."""
            items = fetch(f"{url}/api/status")["pipelines"]
            known = items and items[0]["state"] == "running" and items[0]["rows_read"]
            return items[0] if known else {}

        item = until("state and books, which need no Kafka", settled)
        assert item["lag_records"] is None and "lag unknown" in item["conditions"]
        text = fetch_text(f"{url}/metrics")
        assert 'headgate_exporter_source_up{source="kafka"} 0.0' in text
        assert "headgate_lag_records{" not in text and "headgate_lag_seconds{" not in text
    finally:
        platform.end("blind")


def test_without_kafka_the_command_line_shows_the_rest_and_exits_69(
    platform: WatchedPlatform, private_environ: Callable[[str], dict[str, str]]
) -> None:
    nobody = f"127.0.0.1:{private_environ('monitoring-nobody')['HEADGATE_SERVING_PORT']}"
    run = platform.headgate("status", "--json", check=False, HEADGATE_KAFKA_BROKERS=nobody)
    assert run.returncode == 69 and "kafka" in run.stderr
    (told,) = json.loads(run.stdout)
    assert (told["state"], told["lag_records"], told["lag_seconds"]) == ("running", None, None)
    assert told["rows_read"] > 0 and "lag unknown" in told["conditions"]


def test_watching_shows_it_again_and_again_until_it_is_interrupted(platform: WatchedPlatform) -> None:
    platform.run("watch", "status", "--watch")
    try:
        until("three screens", lambda: platform.log("watch").count("committed") >= 3)
        platform.processes["watch"].send_signal(signal.SIGINT)
        assert platform.processes["watch"].wait(120) == 130
    finally:
        platform.end("watch")
    assert PIPELINE in platform.log("watch") and "running" in platform.log("watch")


def test_the_page_of_a_dead_exporter_says_that_it_is_old(
    platform: WatchedPlatform, private_environ: Callable[[str], dict[str, str]]
) -> None:
    from playwright.sync_api import sync_playwright

    port = private_environ("monitoring-old")["HEADGATE_EXPORTER_PORT"]
    platform.run("old", "exporter", HEADGATE_EXPORTER_PORT=port)
    try:
        until("the exporter answers", lambda: fetch(f"http://127.0.0.1:{port}/healthz"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGS)
            try:
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}")
                assert page.locator("main.old").count() == 0
                platform.end("old", kill=True)
                page.wait_for_selector("main.old", timeout=60_000)
                assert "old" in page.locator("#link").inner_text()
            finally:
                browser.close()
    finally:
        platform.end("old")


def test_a_dead_supervisor_leaves_states_unknown_and_the_rest_known(platform: WatchedPlatform) -> None:
    platform.end("supervisor", kill=True)
    try:
        now = until("unknown", lambda: (s := platform.status())["state"] == "unknown" and s)
        assert now["desired"] == "running"  # from the store
        assert now["driver_alive"] is True and now["lag_records"] is not None
        run = platform.headgate("status", "--json", check=False)
        assert run.returncode == 69 and "supervisor" in run.stderr
        told = json.loads(run.stdout)[0]
        assert told["state"] == "unknown" and told["rows_read"] > 0 and told["epoch"] == now["epoch"]
        until("Prometheus sees no state", lambda: not platform.query("headgate_stream_state"), 60)
        assert platform.query(f'up{{job="headgate-drivers",pipeline="{PIPELINE}"}} == 1')
    finally:
        platform.start_supervisor()
    until("adopted", lambda: platform.status()["state"] == "running", 60)


def test_a_dead_driver_is_seen_and_its_lag_goes_on_being_told(platform: WatchedPlatform) -> None:
    epoch = platform.status()["epoch"]
    note = json.loads(
        (platform.settings.state / "streams" / PIPELINE / f"runner-{epoch}.json").read_text(encoding="utf-8")
    )
    read = platform.status()["rows_read"]
    os.killpg(os.getpgid(note["driver_pid"]), signal.SIGSTOP)  # nothing restarts what seems to live
    try:
        platform.send(_record())
        until("the lag grows without a driver", lambda: platform.status()["lag_records"] > 0, 60)
    finally:
        os.killpg(os.getpgid(note["driver_pid"]), signal.SIGCONT)
    os.kill(note["driver_pid"], signal.SIGKILL)
    again = until(
        "the next epoch runs",
        lambda: (s := platform.status())["epoch"] > epoch and s["state"] == "running" and s,
        150,
    )
    assert again["restarts"] >= 1
    later = until(
        "rows go on where they were", lambda: (s := platform.status())["rows_read"] > read and s, 90
    )
    assert later["rows_quarantined"] == 3
    assert later["rows_read"] == later["rows_good"] + later["rows_quarantined"]


def _record() -> bytes:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return json.dumps({"timestamp": now, "value": 1.5}).encode()
