"""Every error headgate raises on purpose.

HeadgateError                     exit 1
├── UsageError                    exit 64   the command line cannot be understood
├── ContractError                 exit 65   one or more problems in contract files
├── SettingsError                 exit 78   headgate.toml, HEADGATE_* or a secret reference
├── RefusedError                  exit 3    understood, and refused: the reason and the choices
│   └── PlanChangedError          exit 3    the live system is not what the plan was made for
├── UnavailableError              exit 69   a service does not answer (transient)
│   ├── SupervisorUnavailable
│   ├── KafkaUnavailable
│   ├── StoreUnavailable
│   └── TablesUnavailable
├── NotFoundError                 exit 4    no such stream, pipeline, output, contract
└── ServiceError                  exit 70   a service answered, and the answer was an error

Each carries `message` (what happened, where), `expected` and `help` (the next command to run), and
renders as text through `str()`. The CLI prints exactly that, never a traceback unless `--debug`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ContractError",
    "HeadgateError",
    "KafkaUnavailable",
    "NotFoundError",
    "PlanChangedError",
    "Problem",
    "RefusedError",
    "ServiceError",
    "SettingsError",
    "StoreUnavailable",
    "SupervisorUnavailable",
    "TablesUnavailable",
    "UnavailableError",
    "UsageError",
]


class HeadgateError(Exception):
    """What happened, what was expected, and what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, expected: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.help = help

    def __str__(self) -> str:
        lines = [self.message]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class UsageError(HeadgateError, ValueError):
    exit_code = 64


class SettingsError(HeadgateError, ValueError):
    exit_code = 78


class RefusedError(HeadgateError):
    """The request is clear and would do harm: it is not carried out."""

    exit_code = 3


class PlanChangedError(RefusedError):
    """The live system changed between plan and apply."""


class UnavailableError(HeadgateError, ConnectionError):
    """A service does not answer; trying again later can help."""

    exit_code = 69


class SupervisorUnavailable(UnavailableError):
    pass


class KafkaUnavailable(UnavailableError):
    pass


class StoreUnavailable(UnavailableError):
    pass


class TablesUnavailable(UnavailableError):
    pass


class NotFoundError(HeadgateError, LookupError):
    exit_code = 4


class ServiceError(HeadgateError):
    """A service answered with an error of its own."""

    exit_code = 70


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one place. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str
    expected: str | None = None
    help: str | None = None
    excerpt: str | None = None

    def __str__(self) -> str:
        parts = [f"{self.file}:{self.line}:{self.column}: {self.message}"]
        if self.excerpt is not None:
            parts.append(f"  {self.line:>4} | {self.excerpt}")
            parts.append("       | " + " " * (self.column - 1) + "^")
        if self.expected:
            parts.append(f"  expected: {self.expected}")
        if self.help:
            parts.append(f"  help: {self.help}")
        return "\n".join(parts)


class ContractError(HeadgateError, ValueError):
    """All the problems of one or more contract files, in the order of the files."""

    exit_code = 65

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__("\n".join([*map(str, self.problems), f"{count} {noun}; nothing was changed."]))
