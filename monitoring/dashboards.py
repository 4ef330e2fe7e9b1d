"""The dashboards that are generated: one for a pipeline, one over all of them."""

from __future__ import annotations

from typing import Any

from monitoring.overview_rows import OVERVIEW
from monitoring.panels import dashboard_json
from monitoring.pipeline_rows import PIPELINE

__all__ = ["dashboards"]


def dashboards() -> dict[str, dict[str, Any]]:
    """File name to dashboard."""
    return {
        "pipeline.json": dashboard_json(
            uid="headgate-pipeline",
            title="headgate: a pipeline",
            description="One stream: flow, lag, signs of life, quality, state.",
            rows=PIPELINE,
            with_pipeline=True,
        ),
        "overview.json": dashboard_json(
            uid="headgate-overview",
            title="headgate: all streams",
            description="All streams, the topics, serving, and monitoring itself.",
            rows=OVERVIEW,
            with_pipeline=False,
        ),
    }
