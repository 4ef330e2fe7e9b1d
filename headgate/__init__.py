"""One YAML contract per stream, and everything that runs it."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
