"""`headgate exporter`."""

from __future__ import annotations

import typer

from headgate.settings import load_settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("exporter")(exporter)


def exporter() -> None:
    """Run the exporter: metrics, service discovery, status page and runbooks over HTTP."""
    from monitoring.exporter import serve

    serve(load_settings()[0])
