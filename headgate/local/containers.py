"""What the compose file in docker/ runs once: secrets and files, health, and the pipelines' first order.

python -m headgate.local.containers files        secrets and configuration files into the volumes
python -m headgate.local.containers healthy NAME exit 0 when that service is healthy
python -m headgate.local.containers pipelines    apply the contracts and order their streams
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from headgate.contract.frozen import ContractStore
from headgate.errors import HeadgateError, RefusedError
from headgate.local import airflow, secrets
from headgate.local.health import Check, Http
from headgate.local.pipelines import Bringer
from headgate.local.steps import Done, run_steps
from headgate.settings import Settings, load_settings

__all__ = ["check_of", "order_pipelines", "write_files"]

DATABASES = ("headgate", "airflow")
DATABASE_HOST = "postgres"


def write_files(settings: Settings, passwords: Path) -> None:
    """Make what is missing; what is there stays, so that databases and clients keep agreeing.

    `passwords` is read by images with users of their own, so its files are readable by all: only
    the containers that need one mount that folder.
    """
    from monitoring.prometheus import write_prometheus_config

    settings.state.mkdir(parents=True, exist_ok=True)
    secrets.ensure(settings, settings.supervisor.token, secrets.password)
    airflow.prepare(settings)
    write_prometheus_config(settings, settings.state / "monitoring")
    passwords.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in ("postgres", "grafana", *DATABASES):
        value = secrets.ensure_file(passwords / name, secrets.password)
        (passwords / name).chmod(0o444)
        if name in DATABASES:
            lines.append(f"{DATABASE_HOST}:*:{name}:{name}:{value}\n")
    secrets.write_private(settings.state / "secrets" / "pgpass", "".join(lines))


def check_of(settings: Settings, name: str) -> Check:
    """The health check of one container. Raises RefusedError for a name that has none."""
    urls = {
        "supervisor": f"{settings.supervisor_url}/healthz",
        "exporter": f"{settings.exporter.url}/healthz",
        "serving": f"{settings.serving.url}/health",
        "airflow-api-server": f"{settings.airflow.url}/api/v2/monitor/health",
    }
    if name not in urls:
        raise RefusedError(f"{name} has no health check here", expected=f"one of {', '.join(urls)}")
    return Http(urls[name])


def order_pipelines(settings: Settings) -> None:
    """Apply the contracts, order every stream through Airflow, and wait until they run."""
    from headgate.topics.apply import apply_plan
    from headgate.topics.pipelines import plan_pipelines

    plan = plan_pipelines(settings)
    if plan.refusals:
        raise RefusedError(
            f"the contracts cannot be applied: {plan.refusals[0].message}", help="headgate plan"
        )
    if plan.actions:
        apply_plan(settings, plan, by=f"compose:{getpass.getuser()}")
    applied = ContractStore(settings.state).applied().values()
    with closing(Bringer(settings, metrics=False)) as bringer:
        # Results wait for the producers, which wait for this.
        run_steps([step for each in applied for step in bringer.steps(each, results=False)], _Lines())


class _Lines:
    def done(self, name: str, done: Done, seconds: float) -> None:
        sys.stdout.write(f"{name}: {seconds:.1f} s {done.note}\n")

    def waiting(self, names: Sequence[str]) -> None:
        sys.stdout.write(f"waiting for {', '.join(names)}\n")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m headgate.local.containers", description=__doc__)
    parser.add_argument("action", choices=["files", "healthy", "pipelines"])
    parser.add_argument("name", nargs="?", default="")
    options = parser.parse_args(arguments)
    try:
        settings, _ = load_settings()
        if options.action == "healthy":
            health = check_of(settings, options.name)()
            sys.stdout.write(f"{health.detail}\n")
            return 0 if health.ok else 1
        if options.action == "files":
            write_files(settings, settings.home / "passwords")
        else:
            order_pipelines(settings)
    except HeadgateError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
