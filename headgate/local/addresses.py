"""Where everything is: what `headgate urls` and the end of `headgate up` print."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.address import masked
from headgate.local.services import missing_binaries
from headgate.settings import Settings

__all__ = ["addresses", "login", "notes"]


def addresses(settings: Settings) -> dict[str, str]:
    """Name to address of every service that a person or a tool talks to."""
    return {
        "airflow": settings.airflow.url,
        "status": settings.exporter.url,
        "serving": settings.serving.url,
        "prometheus": f"http://127.0.0.1:{settings.local.prometheus_port}",
        "alertmanager": f"http://127.0.0.1:{settings.local.alertmanager_port}",
        "kafka": settings.kafka.brokers,
        "redis": masked(settings.redis.url),
        "supervisor": settings.supervisor_url,
    }


def login(settings: Settings) -> str:
    """Who logs in to Airflow and where the password is; never the password itself."""
    reference = settings.airflow.password.replace("{state}", str(settings.state))
    kind, _, place = reference.partition(":")
    where = f"in {settings.home / place}" if kind == "file" else f"in the variable {place}"
    return f"{settings.airflow.username}, password {where}"


def notes(settings: Settings) -> Mapping[str, str]:
    """What to know beside an address."""
    absent = {name: f"not installed: {cost}" for name, cost in missing_binaries().items()}
    producers = settings.local.producers
    example = f"for example {addresses(settings)['serving']}/api/{producers[0]}" if producers else ""
    return {"airflow": f"log in as {login(settings)}", "serving": example, **absent}
