"""The runbooks: where they are, and one as HTML for the link in an alert."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt

__all__ = ["HEADINGS", "runbook_html", "runbooks_folder"]

# The skeleton of every runbook, in this order.
HEADINGS = (
    "Meaning",
    "Impact",
    "Is it real",
    "Diagnosis",
    "Mitigation",
    "Escalate when",
    "Why this threshold",
    "Fault-matrix rows that fire it",
)


def runbooks_folder() -> Path:
    """Beside this module in an installed package, in docs/ in a checkout."""
    here = Path(__file__).resolve().parent
    packaged = here / "runbook_files"
    return packaged if packaged.is_dir() else here.parent / "docs" / "runbooks"


def runbook_html(name: str) -> str | None:
    """A runbook as HTML, or None when there is none of this name. Raw HTML in it stays text."""
    if re.fullmatch(r"[A-Za-z]+", name) is None:
        return None
    try:
        text = (runbooks_folder() / f"{name}.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
