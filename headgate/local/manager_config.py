"""supervisord.conf: one program per service, each behind its launcher, none started by itself.

What a service is started with stands in a file of its own, as supervisord's syntax has no way to
quote everything. The digest of that file is on the program's command line, so that supervisord
sees when a service is not the same any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headgate.local.services import Service

__all__ = ["Endpoint", "Layout", "configuration", "specification"]

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

    def specification(self, name: str) -> Path:
        return self.state / "local" / f"{name}.json"

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


def specification(service: Service, environ: Mapping[str, str]) -> str:
    """What the launcher reads: argv, environment on top of the manager's own, and what it read of files."""
    content = {
        "command": list(service.command),
        "environ": {**environ, **service.environ},
        "config": service.config,
        "stop_seconds": service.stop_seconds,
        "whole_tree": service.whole_tree,
    }
    return json.dumps(content, indent=1, sort_keys=True)


def configuration(layout: Layout, endpoint: Endpoint, specifications: Mapping[str, str]) -> str:
    """supervisord.conf for services by name, each with its specification."""
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
    rpc = [
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    programs = [_program(layout, name, text) for name, text in specifications.items()]
    return "\n\n".join("\n".join(lines) for lines in [_listener(endpoint), own, rpc, *programs]) + "\n"


def _listener(endpoint: Endpoint) -> list[str]:
    if endpoint.url.startswith("unix://"):
        path = endpoint.url.removeprefix("unix://")
        return ["[unix_http_server]", f"file={_escape(path)}", "chmod=0700"]
    return [
        "[inet_http_server]",
        f"port={endpoint.url.removeprefix('http://')}",
        f"username={endpoint.username}",
        f"password={_escape(endpoint.password)}",
    ]


def _program(layout: Layout, name: str, text: str) -> list[str]:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    launch = [sys.executable, "-m", "headgate.local.launch", name, "--digest", digest]
    launch += ["--spec", str(layout.specification(name)), "--run", str(layout.records)]
    launch += ["--log", str(layout.log / f"{name}.log")]
    stop_seconds = json.loads(text)["stop_seconds"]
    return [
        f"[program:{name}]",
        f"command={_escape(shlex.join(launch))}",
        f"directory={_escape(layout.home)}",
        "autostart=false",
        "autorestart=true",
        "startsecs=1",
        f"startretries={RETRIES}",
        # The launcher needs a moment of its own when it stands in front of an adopted service.
        f"stopwaitsecs={stop_seconds + 5}",
        "stopsignal=TERM",
        "stopasgroup=true",
        "killasgroup=true",
        "stdout_logfile=NONE",
        "stderr_logfile=NONE",
    ]


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")
