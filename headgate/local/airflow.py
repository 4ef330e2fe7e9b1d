"""The embedded Airflow: its configuration, its login and its database. Each part is a process of its own."""

from __future__ import annotations

import configparser
import io
import json
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.engine import make_url

from headgate.errors import ServiceError
from headgate.local import secrets
from headgate.local.execute import run_within
from headgate.settings import Settings

__all__ = [
    "CONNECT_ARGS",
    "AirflowHome",
    "airflow_of",
    "configuration",
    "executable",
    "loopback",
    "migrate",
    "prepare",
]

MIGRATE_SECONDS = 300
# Small on purpose: streams hold no slot, so what runs is plan, apply, preflight, quality and the sweep.
PARALLELISM = 6
EXECUTOR = "headgate.airflow.executor.ResumeSafeExecutor"
# Airflow's processes share one SQLite file; the driver's own five seconds are too short for a busy machine:
# the API server then answers 500 ("database is locked"). Airflow reads this by its name in airflow.cfg.
CONNECT_ARGS = {"timeout": 60}
# Only SQLite needs what is there: see the module in it.
PLUGINS = Path(__file__).parents[1] / "airflow" / "plugins"


@dataclass(frozen=True, slots=True)
class AirflowHome:
    """`database` is SQLAlchemy's address of it, and may hold a password."""

    folder: Path
    dags: Path
    url: str
    database: str

    @property
    def config(self) -> Path:
        return self.folder / "airflow.cfg"

    @property
    def sqlite(self) -> Path | None:
        """The database's file; None where a server holds it."""
        address = make_url(self.database)
        is_file = address.get_backend_name() == "sqlite"
        return Path(address.database) if is_file and address.database else None

    @property
    def passwords(self) -> Path:
        return self.folder / "passwords.json"

    @property
    def environ(self) -> dict[str, str]:
        return {"AIRFLOW_HOME": str(self.folder), "AIRFLOW_CONFIG": str(self.config)}


def airflow_of(settings: Settings) -> AirflowHome:
    return AirflowHome(
        settings.state / "airflow", settings.home / "dags", settings.airflow.url, settings.airflow_database
    )


def loopback() -> str:
    """The name under which the parts find each other's logs: they are all on this machine."""
    return "127.0.0.1"


def executable() -> str:
    """The `airflow` beside the Python that runs now."""
    return str(Path(sys.executable).with_name("airflow"))


def configuration(settings: Settings, home: AirflowHome, keys: Mapping[str, str]) -> str:
    """airflow.cfg: what differs from Airflow's defaults. `keys`: fernet, api and jwt."""
    return _as_config(
        {
            "core": {**_core(settings, home, keys["fernet"]), **_plugins(home)},
            "database": _database(home),
            "logging": _logging(settings, home),
            "scheduler": _SCHEDULER,
            "dag_processor": _DAG_PROCESSOR,
            "api": {
                "host": settings.airflow.host,
                "port": settings.airflow.port,
                "base_url": home.url,
                "workers": 1,
                "secret_key": keys["api"],
            },
            "api_auth": {"jwt_secret": keys["jwt"]},
        }
    )


def _database(home: AirflowHome) -> Mapping[str, object]:
    if home.sqlite is not None:
        arguments = "headgate.local.airflow.CONNECT_ARGS"
        return {
            "sql_alchemy_conn": home.database,
            "sql_alchemy_connect_args": arguments,
            "sql_alchemy_connect_args_async": arguments,
        }
    return {"sql_alchemy_conn": home.database, "sql_alchemy_conn_async": home.database}


def _plugins(home: AirflowHome) -> Mapping[str, object]:
    return {"plugins_folder": PLUGINS} if home.sqlite is not None else {}


def _core(settings: Settings, home: AirflowHome, fernet: str) -> Mapping[str, object]:
    return {
        "dags_folder": home.dags,
        "executor": EXECUTOR,
        "parallelism": PARALLELISM,
        "load_examples": False,
        "fernet_key": fernet,
        "simple_auth_manager_users": f"{settings.airflow.username}:admin",
        "simple_auth_manager_passwords_file": home.passwords,
        "execution_api_server_url": f"{home.url}/execution/",
        "hostname_callable": "headgate.local.airflow.loopback",
        "min_serialized_dag_update_interval": 5,
    }


def _logging(settings: Settings, home: AirflowHome) -> Mapping[str, object]:
    return {
        "base_log_folder": home.folder / "logs",
        "worker_log_server_port": settings.local.airflow_log_port,
        "trigger_log_server_port": settings.local.airflow_trigger_log_port,
        "colored_console_log": False,
    }


# An applied contract's DAGs appear within ten seconds; a parse costs a fraction of one.
_DAG_PROCESSOR: Mapping[str, object] = {
    "parsing_processes": 1,
    "min_file_process_interval": 8,
    "refresh_interval": 10,
    "print_stats_interval": 300,
}


# A scheduler that starts sooner than the one before it counts as dead (30 s) leaves that one's queued tasks
# to its next look, by default after 300 s: so long an order would wait that Airflow has answered for.
_SCHEDULER: Mapping[str, object] = {"orphaned_tasks_check_interval": 30}


def _as_config(sections: Mapping[str, Mapping[str, object]]) -> str:
    parser = configparser.RawConfigParser()
    # Airflow's own parser interpolates, so a percent sign has to be doubled.
    parser.read_dict(
        {name: {k: str(v).replace("%", "%%") for k, v in keys.items()} for name, keys in sections.items()}
    )
    out = io.StringIO()
    parser.write(out)
    return out.getvalue()


def prepare(settings: Settings) -> AirflowHome:
    """Write configuration and login; secrets are made once and kept over restarts."""
    home = airflow_of(settings)
    home.folder.mkdir(parents=True, exist_ok=True)
    folder = settings.state / "secrets"
    keys = {
        "fernet": secrets.ensure_file(folder / "airflow.fernet", secrets.fernet_key),
        "api": secrets.ensure_file(folder / "airflow.api", secrets.signing_key),
        "jwt": secrets.ensure_file(folder / "airflow.jwt", secrets.signing_key),
    }
    login = secrets.ensure(settings, settings.airflow.password, secrets.password)
    secrets.write_private(home.passwords, json.dumps({settings.airflow.username: login}) + "\n")
    secrets.write_private(home.config, configuration(settings, home, keys))
    return home


def migrate(home: AirflowHome, environ: Mapping[str, str]) -> bool:
    """Bring the database to this Airflow's version; True when something was done."""
    stamp = home.folder / ".migrated"
    which = make_url(home.database).render_as_string(hide_password=True)
    wanted = f"{version('apache-airflow')} {which}\n"
    known = stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted
    # A server's database can be made anew behind the same address: there the stamp is no proof.
    if known and home.sqlite is not None and home.sqlite.is_file():
        return False
    command = [executable(), "db", "migrate"]
    done = run_within(MIGRATE_SECONDS, "`airflow db migrate`", command, {**environ, **home.environ})
    if done.returncode != 0:
        raise ServiceError(
            f"`airflow db migrate` failed:\n{(done.stdout + done.stderr).strip()[-3000:]}",
            help=f"if {which} is damaged, take another (HEADGATE_AIRFLOW_DATABASE) or move its file away: "
            "streams and their checkpoints do not need it",
        )
    if home.sqlite is not None:
        with closing(sqlite3.connect(home.sqlite)) as database:
            # Readers do not wait for writers: five processes share this file.
            database.execute("PRAGMA journal_mode=WAL")
    stamp.write_text(wanted, encoding="utf-8")
    return not known
