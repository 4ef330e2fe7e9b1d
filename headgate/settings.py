"""Where things are and how they are reached: one typed model, from headgate.toml and HEADGATE_*.

Order, later wins: the defaults below, the top-level tables of headgate.toml, its `[env.<name>.*]`
tables for the chosen environment, then `HEADGATE_<SECTION>_<KEY>` variables. Secrets are never
values: they are references, `env:NAME` or `file:PATH`, read at the moment of use.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headgate.errors import SettingsError

__all__ = ["Settings", "SettingsOrigin", "load_settings", "read_secret"]

FILE_NAME = "headgate.toml"
# Variables that choose a place rather than set a value of a section; a driver and its children carry the
# nonce by which the supervisor knows them.
_SPECIAL = {"HEADGATE_HOME", "HEADGATE_ENV", "HEADGATE_PIPELINES", "HEADGATE_DEBUG", "HEADGATE_NONCE"}

SecretRef = str


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Section):
    brokers: str = "127.0.0.1:9092"
    replication: int = Field(default=1, ge=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: SecretRef | None = None
    password: SecretRef | None = None
    ca_file: str | None = None
    timeout_seconds: float = Field(default=10.0, gt=0)


class SparkSettings(_Section):
    master: str = "local"  # "local" becomes local[job.cores]
    jars: str = "jars/spark"
    class_data_archive: bool = True
    ui: bool = True


class StoreSettings(_Section):
    url: str = "sqlite:///{state}/headgate.db"  # {state} is roots.state


class RootsSettings(_Section):
    state: str = "var"
    checkpoints: str = "{state}/checkpoints"
    tables: str = "{state}/tables"


class RedisSettings(_Section):
    url: str = "redis://127.0.0.1:6379/0"
    password: SecretRef | None = None


class HttpSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)


class SupervisorSettings(HttpSettings):
    port: int = Field(default=8070, ge=1, le=65535)
    token: SecretRef = "file:{state}/secrets/supervisor.token"
    poll_seconds: float = Field(default=1.0, gt=0)


class ServingSettings(HttpSettings):
    port: int = Field(default=5000, ge=1, le=65535)


class ExporterSettings(HttpSettings):
    port: int = Field(default=8071, ge=1, le=65535)


class AirflowSettings(HttpSettings):
    port: int = Field(default=8080, ge=1, le=65535)
    username: str = "admin"
    password: SecretRef = "file:{state}/secrets/airflow.password"


class LocalSettings(_Section):
    """Only for the embedded services of `headgate up`."""

    kafka_controller_port: int = 9093
    redis_port: int = 6379
    prometheus_port: int = 9090
    alertmanager_port: int = 9094
    airflow_log_port: int = 8793
    airflow_trigger_log_port: int = 8794
    triggerers: int = Field(default=1, ge=1, le=4)
    producers: tuple[str, ...] = ("realtime-data", "logs")


class Settings(_Section):
    """The whole of it; `home` is the folder of headgate.toml and all relative paths start there."""

    home: Path
    env: str = Field(default="local", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,60}$")
    pipelines: str = "pipelines"
    kafka: KafkaSettings = KafkaSettings()
    spark: SparkSettings = SparkSettings()
    store: StoreSettings = StoreSettings()
    roots: RootsSettings = RootsSettings()
    redis: RedisSettings = RedisSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    serving: ServingSettings = ServingSettings()
    exporter: ExporterSettings = ExporterSettings()
    airflow: AirflowSettings = AirflowSettings()
    local: LocalSettings = LocalSettings()

    def path(self, value: str) -> Path:
        """A configured path: `{state}` filled in, relative ones below `home`."""
        return (self.home / value.replace("{state}", self.roots.state)).resolve()

    @property
    def state(self) -> Path:
        return self.path(self.roots.state)

    @property
    def checkpoints(self) -> Path:
        return self.path(self.roots.checkpoints)

    @property
    def tables(self) -> Path:
        return self.path(self.roots.tables)

    @property
    def pipelines_dir(self) -> Path:
        return self.path(self.pipelines)

    @property
    def jars_dir(self) -> Path:
        return self.path(self.spark.jars)

    @property
    def store_url(self) -> str:
        return self.store.url.replace("{state}", str(self.state))

    @property
    def supervisor_url(self) -> str:
        return f"http://{self.supervisor.host}:{self.supervisor.port}"

    def secret(self, reference: str) -> str:
        """The secret behind a reference of this settings object. Raises SettingsError."""
        return read_secret(reference.replace("{state}", str(self.state)), self.home)


@dataclass(frozen=True, slots=True)
class SettingsOrigin:
    """Where one value came from, for `headgate doctor`: key, value as text, place."""

    key: str
    value: str
    place: str


def read_secret(reference: str, home: Path) -> str:
    """Read `env:NAME` or `file:PATH`; the value is never part of an error."""
    kind, _, rest = reference.partition(":")
    if kind == "env" and rest:
        value = os.environ.get(rest)
        if value is None:
            raise SettingsError(
                f"the secret {reference!r} is not there: the environment has no variable {rest}",
                help=f"export {rest}=…",
            )
        return value
    if kind == "file" and rest:
        path = home / rest
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"the secret {reference!r} cannot be read: {error.strerror}",
                help=f"write it to {path} with mode 0600, or run `headgate up`, which makes its own",
            ) from error
    raise SettingsError("a secret is given as a value", expected="a reference, env:NAME or file:PATH")


def load_settings(
    home: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Settings, list[SettingsOrigin]]:
    """Read the settings and say where each value came from. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    home = _find_home(home, environ)
    file = home / FILE_NAME
    document = _read_toml(file)
    environments = document.pop("env", {})
    name = environ.get("HEADGATE_ENV") or document.pop("environment", None) or "local"
    if environments and name not in environments and name not in {"local", "torture"}:
        raise SettingsError(
            f"there is no environment {name!r} in {file}",
            expected=f"one of {', '.join(sorted({'local', *environments}))}",
            help="set HEADGATE_ENV, or add the table [env." + name + "]",
        )
    values: dict[str, Any] = {"home": home, "env": name}
    places: dict[str, str] = {"env": "HEADGATE_ENV" if "HEADGATE_ENV" in environ else "default"}
    _merge(values, document, f"{file}", places)
    _merge(values, environments.get(name, {}), f"{file} [env.{name}]", places)
    _merge(values, _from_environ(environ), "environment", places)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, places)) from error
    return settings, _origins(settings, places)


def _find_home(home: Path | None, environ: Mapping[str, str]) -> Path:
    if home is not None:
        return home.resolve()
    if "HEADGATE_HOME" in environ:
        return Path(environ["HEADGATE_HOME"]).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    return here


def _read_toml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error


def _merge(into: dict[str, Any], new: Mapping[str, Any], place: str, places: dict[str, str]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping):
            section = into.setdefault(key, {})
            for inner, inner_value in value.items():
                section[inner] = inner_value
                places[f"{key}.{inner}"] = place
        else:
            into[key] = value
            places[key] = place


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    sections = {
        name: set(field.annotation.model_fields)
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    known = {f"HEADGATE_{s}_{k}".upper(): (s, k) for s, keys in sections.items() for k in keys}
    found: dict[str, Any] = {}
    for variable, value in environ.items():
        if not variable.startswith("HEADGATE_") or variable in _SPECIAL:
            continue
        if variable == "HEADGATE_PREFIX":
            found["prefix"] = value
        elif variable in known:
            section, key = known[variable]
            found.setdefault(section, {})[key] = value.split(",") if key == "producers" else value
        else:
            close = difflib.get_close_matches(variable, [*known, *_SPECIAL, "HEADGATE_PREFIX"], n=1)
            hint = f"did you mean {close[0]}?" if close else "run `headgate doctor` for the names there are"
            raise SettingsError(f"unknown variable {variable}", help=hint)
    if environ.get("HEADGATE_PIPELINES"):
        found["pipelines"] = environ["HEADGATE_PIPELINES"]
    return found


def _explain(error: ValidationError, places: Mapping[str, str]) -> str:
    lines = ["the settings are not valid:"]
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        lines.append(f"  {key} ({places.get(key, 'default')}): {item['msg']}")
    return "\n".join(lines)


def _origins(settings: Settings, places: Mapping[str, str]) -> list[SettingsOrigin]:
    rows = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for key in type(value).model_fields:
                place = places.get(f"{name}.{key}", "default")
                rows.append(SettingsOrigin(f"{name}.{key}", str(getattr(value, key)), place))
        else:
            rows.append(SettingsOrigin(name, str(value), places.get(name, "default")))
    return rows
