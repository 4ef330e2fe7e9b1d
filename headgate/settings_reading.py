"""The raw values of the settings: headgate.toml and HEADGATE_*, each with the place it came from.

What has the wrong shape is noted and left out, so that one reading finds all that is wrong.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headgate.errors import SettingsError
from headgate.suggest import closest

__all__ = ["FILE_NAME", "Reading", "Sections", "find_home", "read"]

FILE_NAME = "headgate.toml"
# Variables that choose a place rather than set a value of a section; a driver and its children carry the
# nonce by which the supervisor knows them.
_SPECIAL = {"HEADGATE_HOME", "HEADGATE_ENV", "HEADGATE_PIPELINES", "HEADGATE_DEBUG", "HEADGATE_NONCE"}
# Environments that need no table of their own: one machine, and the private copy of `headgate torture`.
BUILT_IN = frozenset(("local", "torture"))
# Keys of the whole that only the place of the file and the choice of an environment decide.
_CHOSEN = {
    "home": "the folder of this file is the home; HEADGATE_HOME chooses another",
    "env": 'the environment is chosen by HEADGATE_ENV, or by environment = "<name>" at the top of the file',
}

# Section to key to whether it takes a list, which a variable writes with commas.
Sections = Mapping[str, Mapping[str, bool]]


@dataclass(slots=True)
class Reading:
    """What was found: values by section, where each came from, and what is wrong."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def place(self, key: str) -> str:
        """Where a value came from; that of its section when the section is what is wrong."""
        return self.places.get(key) or self.places.get(key.partition(".")[0]) or "default"

    def wrong(self, key: str, place: str, message: str) -> None:
        self.problems.append(f"{key} ({place}): {message}")


def find_home(home: Path | None, environ: Mapping[str, str]) -> Path:
    """The folder that all relative paths start from: given, HEADGATE_HOME, or that of headgate.toml."""
    if home is not None:
        return home.resolve()
    if "HEADGATE_HOME" in environ:
        return Path(environ["HEADGATE_HOME"]).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    return here


def read(file: Path, environ: Mapping[str, str], sections: Sections) -> Reading:
    """Everything that the file and the variables set. Raises SettingsError for a file that is no TOML."""
    text = _text(file)
    document = _parsed(file, text)
    found = Reading()
    layers = _Layers(found, file, text, sections)
    environments = layers.environments(document.pop("env", {}))
    name = layers.choose(document.pop("environment", None), environments, environ)
    found.values["env"] = name
    layers.merge(document, ())
    layers.merge(environments.get(name, {}), ("env", name))
    _add_environ(found, environ, sections)
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error


@dataclass(slots=True)
class _Layers:
    """The tables of one file, laid over each other."""

    found: Reading
    file: Path
    text: str
    sections: Sections

    def environments(self, value: Any) -> dict[str, dict[str, Any]]:
        """The `[env.<name>]` tables that are tables."""
        if not isinstance(value, dict):
            self.found.wrong("env", self._place(("env",)), f"expected tables [env.<name>]; {_CHOSEN['env']}")
            return {}
        for name, table in value.items():
            if not isinstance(table, dict):
                place = self._place(("env", name))
                self.found.wrong(f"env.{name}", place, f"expected a table, [env.{name}.<section>]")
        return {name: table if isinstance(table, dict) else {} for name, table in value.items()}

    def choose(
        self, in_file: Any, environments: Mapping[str, dict[str, Any]], environ: Mapping[str, str]
    ) -> str:
        """The environment's name: HEADGATE_ENV, else the file's `environment`, else local."""
        name, place = "local", "default"
        if in_file is not None:
            place = self._place(("environment",))
            if isinstance(in_file, str):
                name = in_file
            else:
                self.found.wrong("environment", place, "expected the name of an environment, as text")
        if environ.get("HEADGATE_ENV"):
            name, place = environ["HEADGATE_ENV"], "HEADGATE_ENV"
        self.found.places["env"] = place
        if environments and name not in environments and name not in BUILT_IN:
            known = ", ".join(sorted({"local", *environments}))
            self.found.wrong("env", place, f"there is no environment {name!r} in {self.file}: {known}")
        return name

    def merge(self, table: Mapping[str, Any], above: tuple[str, ...]) -> None:
        """Lay a table over what is there; `above` are the tables that it stands in."""
        for key, value in table.items():
            place = self._place((*above, key))
            if key in _CHOSEN:
                self.found.wrong(key, place, f"cannot be set here: {_CHOSEN[key]}")
            elif key in self.sections and not isinstance(value, dict):
                self.found.wrong(key, place, f"expected a table, [{'.'.join((*above, key))}]")
            elif isinstance(value, dict):
                self.found.places[key] = place
                section = self.found.values.get(key)
                if not isinstance(section, dict):  # a value of an earlier layer, which this one replaces
                    section = self.found.values[key] = {}
                for inner, inner_value in value.items():
                    section[inner] = inner_value
                    self.found.places[f"{key}.{inner}"] = self._place((*above, key, inner))
            else:
                self.found.values[key] = value
                self.found.places[key] = place

    def _place(self, keys: tuple[str, ...]) -> str:
        line = _line_of(self.text, keys)
        where = f"{self.file}:{line}" if line else f"{self.file}"
        return f"{where} [env.{keys[1]}]" if keys[0] == "env" and len(keys) > 2 else where


def _line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """The line that sets a key, where it is written plainly; tomllib tells of none."""
    return next((number for number, path in _paths(text) if path[: len(keys)] == keys), None)


def _paths(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each line that opens a table or sets a key, with its full path."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        key = re.match(r"\s*([\w.\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=", line)
        if header:
            table = _parts(header[1])
            yield number, table
        elif key:
            yield number, (*table, *_parts(key[1]))


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _add_environ(found: Reading, environ: Mapping[str, str], sections: Sections) -> None:
    known = {f"HEADGATE_{s}_{k}".upper(): (s, k) for s, keys in sections.items() for k in keys}
    for variable, value in sorted(environ.items()):
        if not variable.startswith("HEADGATE_") or variable in _SPECIAL:
            continue
        if variable == "HEADGATE_PREFIX":
            found.values["prefix"], found.places["prefix"] = value, variable
        elif variable in known:
            section, key = known[variable]
            found.values.setdefault(section, {})[key] = value.split(",") if sections[section][key] else value
            found.places[f"{section}.{key}"] = variable
        else:
            close = closest(variable, [*known, *_SPECIAL, "HEADGATE_PREFIX"])
            hint = f"did you mean {close}?" if close else "docs/guides/production.md says how they are named"
            found.problems.append(f"{variable} (environment): there is no such setting; {hint}")
    if environ.get("HEADGATE_PIPELINES"):
        found.values["pipelines"] = environ["HEADGATE_PIPELINES"]
        found.places["pipelines"] = "HEADGATE_PIPELINES"
