"""Where things are and how they are reached: one typed model, from headgate.toml and HEADGATE_*.

Order, later wins: the defaults below, the top-level tables of headgate.toml, its `[env.<name>.*]`
tables for the chosen environment, then `HEADGATE_<SECTION>_<KEY>` variables. Secrets are never
values: they are references, `env:NAME` or `file:PATH`, read at the moment of use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_origin

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from headgate.address import (
    checked_brokers,
    checked_host,
    checked_registry_url,
    checked_url,
    http_url,
    masked,
)
from headgate.errors import SettingsError
from headgate.secret import read_secret
from headgate.settings_base import SecretRef, Section
from headgate.settings_reading import FILE_NAME, Reading, Sections, find_home, read
from headgate.settings_s3 import S3Settings
from headgate.tables.place import Place, checked_folder, checked_tables, s3_folder

__all__ = ["Settings", "SettingsOrigin", "load_settings"]

Brokers = Annotated[str, AfterValidator(checked_brokers)]
Host = Annotated[str, AfterValidator(checked_host)]
Url = Annotated[str, AfterValidator(checked_url)]
RegistryUrl = Annotated[str, AfterValidator(checked_registry_url)]
Folder = Annotated[str, AfterValidator(checked_folder)]
Tables = Annotated[str, AfterValidator(checked_tables)]


class KafkaSettings(Section):
    brokers: Brokers = "127.0.0.1:9092"
    replication: int = Field(default=1, ge=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: SecretRef | None = None
    password: SecretRef | None = None
    ca_file: str | None = None
    timeout_seconds: float = Field(default=10.0, gt=0)


class SparkSettings(Section):
    master: str = "local"  # "local" becomes local[job.cores]; or spark://HOST:PORT and the like
    driver_host: str = "127.0.0.1"  # under which a cluster's workers reach the drivers
    python: str = ""  # the workers' interpreter, with this package's dependencies; empty: the driver's own
    jars: str = "jars/spark"
    class_data_archive: bool = True
    ui: bool = True


class StoreSettings(Section):
    url: Url = "sqlite:///{state}/headgate.db"  # {state} is roots.state


class RootsSettings(Section):
    state: Folder = "var"
    checkpoints: Folder = "{state}/checkpoints"
    tables: Tables = "{state}/tables"
    snapshots: Folder = "{state}/snapshots"


class SnapshotSettings(Section):
    """Copies of the checkpoints. `every` is in seconds; 0 takes none by itself."""

    every: float = Field(default=3600.0, ge=0)
    keep: int = Field(default=5, ge=1, le=1000)


class RedisSettings(Section):
    url: Url = "redis://127.0.0.1:6379/0"
    password: SecretRef | None = None


class HttpSettings(Section):
    host: Host = "127.0.0.1"
    port: int = Field(ge=1, le=65535)

    @property
    def url(self) -> str:
        return http_url(self.host, self.port)


class RegistrySettings(Section):
    """The schema registry of sources that say `registry: true`."""

    url: RegistryUrl | None = None
    username: SecretRef | None = None
    password: SecretRef | None = None
    token: SecretRef | None = None
    ca_file: str | None = None
    timeout_seconds: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _one_way_in(self) -> RegistrySettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("expected both username and password, or neither")
        if self.token is not None and self.username is not None:
            raise ValueError("expected either a token or username and password, never both")
        return self


class SupervisorSettings(HttpSettings):
    port: int = Field(default=8070, ge=1, le=65535)
    token: SecretRef = "file:{state}/secrets/supervisor.token"
    poll_seconds: float = Field(default=1.0, gt=0)
    spare_driver: bool = True  # keep a warm driver in reserve where there is memory for it
    spare_after_seconds: float = Field(default=30.0, ge=0)  # that all streams have run before one is warmed


class ServingSettings(HttpSettings):
    port: int = Field(default=5000, ge=1, le=65535)


class ExporterSettings(HttpSettings):
    port: int = Field(default=8071, ge=1, le=65535)


class AirflowSettings(HttpSettings):
    port: int = Field(default=8080, ge=1, le=65535)
    database: Url = "sqlite:///{state}/airflow/airflow.db"
    username: str = "admin"
    approvers: tuple[str, ...] = ()  # who may approve orders to streams; empty: everybody who may answer
    password: SecretRef = "file:{state}/secrets/airflow.password"


class LocalSettings(Section):
    """Only for the embedded services of `headgate up`."""

    kafka_controller_port: int = 9093
    redis_port: int = 6379
    prometheus_port: int = 9090
    alertmanager_port: int = 9094
    airflow_log_port: int = 8793
    airflow_trigger_log_port: int = 8794
    triggerers: int = Field(default=1, ge=1, le=4)
    producers: tuple[str, ...] = ("realtime-data", "logs")


class Settings(Section):
    """The whole of it; `home` is the folder of headgate.toml and all relative paths start there."""

    home: Path
    env: str = Field(default="local", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,60}$")
    pipelines: str = "pipelines"
    kafka: KafkaSettings = KafkaSettings()
    spark: SparkSettings = SparkSettings()
    store: StoreSettings = StoreSettings()
    roots: RootsSettings = RootsSettings()
    s3: S3Settings = S3Settings()
    snapshots: SnapshotSettings = SnapshotSettings()
    redis: RedisSettings = RedisSettings()
    registry: RegistrySettings = RegistrySettings()
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
    def tables(self) -> Place:
        access = self.s3.access(self.home, str(self.state))
        return s3_folder(self.roots.tables, access) or self.path(self.roots.tables)

    @property
    def snapshots_root(self) -> Path:
        return self.path(self.roots.snapshots)

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
    def airflow_database(self) -> str:
        return self.airflow.database.replace("{state}", str(self.state))

    @property
    def supervisor_url(self) -> str:
        return self.supervisor.url

    def secret(self, reference: str) -> str:
        """The secret behind a reference of this settings object. Raises SettingsError."""
        return read_secret(reference.replace("{state}", str(self.state)), self.home)


@dataclass(frozen=True, slots=True)
class SettingsOrigin:
    """Where one value came from, for `headgate doctor`: key, value as text, place."""

    key: str
    value: str
    place: str


def load_settings(
    home: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Settings, list[SettingsOrigin]]:
    """Read the settings and say where each value came from. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    home = find_home(home, environ)
    found = read(home / FILE_NAME, environ, _sections())
    try:
        settings = Settings.model_validate(found.values | {"home": home})
    except ValidationError as error:
        raise _invalid([*found.problems, *_problems(error, found)]) from error
    if found.problems:
        raise _invalid(found.problems)
    return settings, _origins(settings, found)


def _sections() -> Sections:
    return {
        name: {
            key: get_origin(inner.annotation) is tuple for key, inner in field.annotation.model_fields.items()
        }
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _invalid(problems: list[str]) -> SettingsError:
    return SettingsError(
        "\n".join(["the settings are not valid:", *(f"  {problem}" for problem in problems)])
    )


def _problems(error: ValidationError, found: Reading) -> list[str]:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such setting"
        lines.append(f"{key} ({found.place(key)}): {message}")
    return lines


def _origins(settings: Settings, found: Reading) -> list[SettingsOrigin]:
    """Every value as it may be shown: secrets are references, and a URL goes without its password."""
    rows = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for key in type(value).model_fields:
                place = found.places.get(f"{name}.{key}", "default")
                rows.append(SettingsOrigin(f"{name}.{key}", masked(str(getattr(value, key))), place))
        else:
            rows.append(SettingsOrigin(name, str(value), found.places.get(name, "default")))
    return rows
