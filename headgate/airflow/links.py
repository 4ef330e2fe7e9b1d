"""Buttons beside the stream's task. Airflow stores each link as an XCom, so none needs a plugin.

The Spark UI's address is known by the driver only: the trigger writes that XCom while the task is
deferred. The others follow from the settings.
"""

from __future__ import annotations

from typing import Any

import attrs
from airflow.sdk import BaseOperatorLink

from headgate.airflow import access
from headgate.airflow.triggers import UI_KEY
from headgate.settings import Settings

__all__ = ["RunbookLink", "SparkUiLink", "StatusPageLink", "runbook_url", "status_url"]


def status_url(settings: Settings, pipeline: str = "") -> str:
    base = f"{settings.exporter.url}/"
    return f"{base}#stream-{pipeline}" if pipeline else base


def runbook_url(settings: Settings, alert: str) -> str:
    return f"{settings.exporter.url}/runbooks/{alert}"


@attrs.define()
class SparkUiLink(BaseOperatorLink):  # type: ignore[misc]
    name: str = "Spark UI"

    @property
    def xcom_key(self) -> str:
        return UI_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        """What the trigger stored last; this is called when the task is deferred and when it ends."""
        from airflow.sdk.execution_time.xcom import XCom

        return XCom.get_value(ti_key=ti_key, key=UI_KEY) or ""


@attrs.define()
class StatusPageLink(BaseOperatorLink):  # type: ignore[misc]
    name: str = "Status page"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        return status_url(access.settings(), operator.pipeline)


@attrs.define()
class RunbookLink(BaseOperatorLink):  # type: ignore[misc]
    name: str = "Runbook"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        return runbook_url(access.settings(), "StreamDown")
