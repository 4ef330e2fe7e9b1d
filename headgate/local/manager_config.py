"""supervisord.conf: one program per service, each behind its launcher, none started by itself."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate.local.services import Service

__all__ = ["Endpoint", "Layout", "configuration"]

# supervisord waits one second longer after each failure in a row, and gives up after so many.
RETRIES = 60


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the manager keeps its files."""

    state: Path
    home: Path

    @property
    def run(self) -> Path:
        return self.state / "run"

    @property
    def records(self) -> Path:
        return self.run / "services"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def config(self) -> Path:
        return self.state / "local" / "supervisord.conf"

    @property
    def endpoint(self) -> Path:
        return self.run / "supervisord.endpoint.json"

    @property
    def socket(self) -> Path:
        return self.run / "supervisord.sock"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where supervisord listens: a unix socket, or a loopback port behind a password."""

    url: str
    username: str = ""
    password: str = ""


def configuration(
    layout: Layout, endpoint: Endpoint, services: Sequence[Service], environ: Mapping[str, str]
) -> str:
    """supervisord.conf. `environ`: what every service gets on top of the manager's own environment."""
    sections = ["\n".join(_listener(endpoint))]
    own = [
        "[supervisord]",
        f"logfile={_escape(layout.log / 'supervisord.log')}",
        f"pidfile={_escape(layout.run / 'supervisord.pid')}",
        f"childlogdir={_escape(layout.log)}",
        f"directory={_escape(layout.home)}",
        "identifier=headgate",
        "loglevel=info",
    ]
    if os.geteuid() == 0:
        own.append("user=root")  # said aloud, or supervisord complains at each start
    sections.append("\n".join(own))
    sections.append(
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface"
    )
    sections += [_program(layout, service, environ) for service in services]
    return "\n\n".join(sections) + "\n"


def _listener(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.url.startswith("unix://"):
        yield "[unix_http_server]"
        yield f"file={_escape(endpoint.url.removeprefix('unix://'))}"
        yield "chmod=0700"
    else:
        yield "[inet_http_server]"
        yield f"port={endpoint.url.removeprefix('http://')}"
        yield f"username={endpoint.username}"
        yield f"password={_escape(endpoint.password)}"


def _program(layout: Layout, service: Service, environ: Mapping[str, str]) -> str:
    launch = [sys.executable, "-m", "headgate.local.launch", service.name]
    launch += ["--run", str(layout.records), "--log", str(layout.log / f"{service.name}.log")]
    launch += ["--stop-seconds", str(service.stop_seconds)]
    if not service.whole_tree:
        launch.append("--keep-descendants")
    variables = {**environ, **service.environ, "_HEADGATE_CONFIG": service.config}
    pairs = ",".join(f"{key}={_quote(value)}" for key, value in sorted(variables.items()))
    return "\n".join(
        [
            f"[program:{service.name}]",
            f"command={_escape(shlex.join([*launch, '--', *service.command]))}",
            f"directory={_escape(layout.home)}",
            f"environment={_escape(pairs)}",
            "autostart=false",
            "autorestart=true",
            "startsecs=1",
            f"startretries={RETRIES}",
            # The launcher needs a moment of its own when it stands in front of an adopted service.
            f"stopwaitsecs={service.stop_seconds + 5}",
            "stopsignal=TERM",
            "stopasgroup=true",
            "killasgroup=true",
            "stdout_logfile=NONE",
            "stderr_logfile=NONE",
        ]
    )


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")
