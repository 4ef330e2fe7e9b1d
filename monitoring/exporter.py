"""The exporter process: watches everything, serves metrics, discovery, the status page and the runbooks."""

from __future__ import annotations

import logging
import signal
import threading

from waitress.server import create_server

from headgate.errors import UnavailableError
from headgate.settings import Settings
from monitoring.monitor import Monitor
from monitoring.web import create_app

__all__ = ["serve"]

# Prometheus, a few people with the page open and Airflow's links: far below what four threads answer.
THREADS = 4


def serve(settings: Settings) -> None:
    """Serve on settings.exporter until SIGTERM or SIGINT. Raises UnavailableError for a taken port."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # httpx tells of each request and kafka-python of each lost connection, every few seconds for as long
    # as a service is away: the health of the sources says it once, in our words.
    for noisy in ("waitress.queue", "httpx", "kafka"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    monitor = Monitor(settings)
    host, port = settings.exporter.host, settings.exporter.port
    try:
        server = create_server(
            create_app(settings, monitor.snapshot), host=host, port=port, threads=THREADS, ident=None
        )
    except OSError as error:
        raise UnavailableError(
            f"the exporter cannot listen on {host}:{port}: {error.strerror}",
            expected="a free port",
            help="stop what listens there, or set HEADGATE_EXPORTER_PORT",
        ) from error
    monitor.start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    thread.start()
    logging.getLogger(__name__).info("status page and metrics on http://%s:%s", host, port)
    stop.wait()
    monitor.stop()
    server.close()
