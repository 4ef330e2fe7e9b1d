"""Write what is generated from the catalogues: `python -m monitoring.generate`.

The files are committed, so that people can read and use them without this program; a test compares.
"""

from __future__ import annotations

from pathlib import Path

from monitoring.alerts import rules
from monitoring.dashboards import dashboards
from monitoring.document import as_json, as_yaml, write
from monitoring.provisioning import provisioning

__all__ = ["files", "main"]

# The committed files carry the address of the embedded exporter; a real installation writes its own.
EXPORTER = "http://127.0.0.1:8071"


def files() -> dict[str, str]:
    """Every generated file below monitoring/, with its text."""
    found = {"generated/rules.yml": as_yaml(rules(EXPORTER))}
    found |= {f"grafana/dashboards/{name}": as_json(document) for name, document in dashboards().items()}
    found |= {
        f"grafana/provisioning/{name}": as_yaml(document) for name, document in provisioning(EXPORTER).items()
    }
    return found


def main() -> None:
    here = Path(__file__).resolve().parent
    for name, text in files().items():
        write(here / name, text)


if __name__ == "__main__":
    main()
