"""How Airflow's processes reach the supervisor, and how the owner of an order is named.

The address and the token come from the Airflow connection `headgate_supervisor` where it exists (host,
port, schema, the token as its password), else from headgate's settings. They are looked up when they
are needed and kept nowhere: not in XCom, arguments or logs.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headgate.settings import Settings, load_settings
from headgate.streams.model import Owner

if TYPE_CHECKING:
    from headgate.streams.client import AsyncSupervisorClient, SupervisorClient

__all__ = [
    "CONNECTION",
    "Access",
    "async_client",
    "client",
    "order_key",
    "owner_of",
    "quiet_kafka",
    "settings",
]

CONNECTION = "headgate_supervisor"


@dataclass(frozen=True, slots=True)
class Access:
    url: str
    token: str = field(repr=False)


def settings() -> Settings:
    return load_settings()[0]


def quiet_kafka() -> None:
    """Keep the Kafka client's connections out of a task's log: what people look for is between them."""
    logging.getLogger("kafka").setLevel(logging.WARNING)


def client() -> SupervisorClient:
    """For tasks. Raises SettingsError when there is neither a connection nor a token."""
    from headgate.streams.client import SupervisorClient

    access = _from_connection(_lookup()) or _from_settings()
    return SupervisorClient(access.url, access.token)


async def async_client() -> AsyncSupervisorClient:
    """For triggers: files and Airflow's API are read without blocking the event loop."""
    from headgate.streams.client import AsyncSupervisorClient

    access = _from_connection(await _alookup())
    if access is None:
        access = await asyncio.to_thread(_from_settings)
    # A new HTTP client loads certificates first, tens of milliseconds that the other triggers would wait.
    return await asyncio.to_thread(AsyncSupervisorClient, access.url, access.token)


def owner_of(context: Any) -> Owner:
    """The owner of what this task instance orders."""
    ti = context["ti"]
    return Owner(
        kind="airflow",
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        try_number=ti.try_number,
        clear_number=getattr(context["dag_run"], "clear_number", None) or 0,
    )


def order_key(owner: Owner, ti_id: object) -> str:
    """The same execute() asked twice allocates once; a cleared one has a new id and orders anew."""
    parts = (owner.dag_id, owner.run_id, owner.task_id, owner.try_number, owner.clear_number, ti_id)
    # Hashed, because a run's id may be longer than the supervisor takes.
    return f"airflow-{hashlib.sha256('/'.join(map(str, parts)).encode()).hexdigest()}"


def _from_settings() -> Access:
    current = settings()
    return Access(current.supervisor_url, current.secret(current.supervisor.token))


def _from_connection(found: Any) -> Access | None:
    if found is None or not found.host:
        return None
    host = found.host if "://" in found.host else f"{found.schema or 'http'}://{found.host}"
    return Access(f"{host}:{found.port}" if found.port else host, found.password or "")


def _lookup() -> Any:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(CONNECTION)
    except AirflowNotFoundException:
        return None


async def _alookup() -> Any:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return await Connection.async_get(CONNECTION)
    except AirflowNotFoundException:
        return None
