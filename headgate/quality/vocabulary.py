"""Which expectations there are and what they take, asked of Great Expectations itself.

Importing it takes 2 seconds and 250 MB, so a process of its own does it (`python -m
headgate.quality.vocabulary`), only when the contracts' expectations were not checked before.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headgate.contract.frozen import FrozenContract
from headgate.contract.loader import LoadedContract
from headgate.errors import Problem, ServiceError
from headgate.settings import Settings

__all__ = ["column_problems", "expectation_problems", "judge"]

# Keys of every expectation that are not a contract's: GX's own bookkeeping, and filters that pandas
# evaluates as code. Rows are filtered by the output's SQL.
_OURS = frozenset(
    (
        "id",
        "meta",
        "notes",
        "result_format",
        "catch_exceptions",
        "rendered_content",
        "severity",
        "windows",
        "batch_id",
        "row_condition",
        "condition_parser",
    )
)
# They compare with other tables over SQL; what is checked here is one Delta table in memory.
_NEED_A_DATABASE = frozenset(("ExpectQueryResultsToMatchComparison", "ExpectTableRowCountToEqualOtherTable"))
_COLUMN_KEYS = ("column", "column_A", "column_B", "column_list")
_TIMEOUT_SECONDS = 120


def expectation_problems(loaded: Sequence[LoadedContract], settings: Settings) -> list[Problem]:
    """Unknown expectations and wrong arguments, where the contract says them. Raises ServiceError."""
    problems: list[Problem] = []
    for item in loaded:
        quality = item.contract.quality
        if quality is None:
            continue
        asked = [{"expect": each.expect, "arguments": each.arguments} for each in quality.expectations]
        for found in _verdicts(asked, settings):
            at = ("quality", "expectations", found["index"], *([found["key"]] if found["key"] else []))
            told = {name: found[name] for name in ("message", "expected", "help", "on_key")}
            problems.append(item.document.problem(at, **told))
    return problems


def column_problems(loaded: Sequence[LoadedContract], frozen: Sequence[FrozenContract]) -> list[Problem]:
    """Columns that an expectation names and its output does not have. Both in the same order."""
    problems: list[Problem] = []
    for item, contract in zip(loaded, frozen, strict=True):
        quality = item.contract.quality
        for index, expectation in enumerate(quality.expectations if quality is not None else ()):
            known = list(contract.outputs[expectation.output].columns)
            problems += [
                item.document.problem(
                    ("quality", "expectations", index, key),
                    f"output `{expectation.output}` has no column `{name}`",
                    expected=f"one of {', '.join(known)}",
                    help=_did_you_mean(name, known),
                )
                for key, name in _named_columns(expectation.arguments)
                if name not in known
            ]
    return problems


def _named_columns(arguments: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key in _COLUMN_KEYS:
        value = arguments.get(key)
        for name in value if isinstance(value, list | tuple) else [value]:
            if isinstance(name, str):
                yield key, name


def _verdicts(asked: list[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    text = json.dumps(asked, sort_keys=True, default=str)
    release = version("great-expectations")
    name = hashlib.sha256(f"{release}\n{Path(__file__).stat().st_mtime_ns}\n{text}".encode()).hexdigest()
    cached = settings.state / "cache" / "expectations" / f"{name}.json"
    if cached.is_file():
        found: list[dict[str, Any]] = json.loads(cached.read_text(encoding="utf-8"))
        return found
    found = _ask(text)
    cached.parent.mkdir(parents=True, exist_ok=True)
    draft = cached.with_suffix(f".{name[:8]}.tmp")
    draft.write_text(json.dumps(found), encoding="utf-8")
    draft.replace(cached)
    return found


def _ask(text: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "headgate.quality.vocabulary"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        told = str(error.stderr or "").strip().splitlines()[-1:] or [str(error)]
        raise ServiceError(
            f"Great Expectations could not look at the contract's expectations: {told[0]}",
            help="python -c 'import great_expectations' shows why; make setup repairs the environment",
        ) from error
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def judge(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is wrong with each expectation: index, key, message, expected, help, on_key."""
    import great_expectations.expectations as known_expectations

    names = [
        name
        for name in dir(known_expectations)
        if name.startswith("Expect") and name != "Expectation" and name not in _NEED_A_DATABASE
    ]
    found: list[dict[str, Any]] = []
    for index, each in enumerate(asked):
        name = each["expect"]
        if name not in names:
            found.append(_unknown_name(index, name, names))
        else:
            kind = getattr(known_expectations, name)
            found += [{"index": index, **problem} for problem in _wrong_arguments(kind, each["arguments"])]
    return found


def _unknown_name(index: int, name: str, names: Sequence[str]) -> dict[str, Any]:
    message = f"`{name}` is not an expectation of Great Expectations"
    if name in _NEED_A_DATABASE:
        message = f"`{name}` compares with another table over SQL, and outputs are files"
    return {
        "index": index,
        "key": "expect",
        "message": message,
        "expected": "a name from https://greatexpectations.io/expectations",
        "help": _did_you_mean(name, names),
        "on_key": False,
    }


def _wrong_arguments(kind: Any, arguments: dict[str, Any]) -> Iterable[dict[str, Any]]:
    from pydantic.v1 import ValidationError

    known = [key for key in kind.__fields__ if key not in _OURS]
    unknown = [key for key in arguments if key not in known]
    for key in unknown:
        yield {
            "key": key,
            "message": f"`{kind.__name__}` takes no `{key}`",
            "expected": f"some of {', '.join(known)}",
            "help": _did_you_mean(key, known),
            "on_key": True,
        }
    try:
        kind(**{key: value for key, value in arguments.items() if key in known})
    except ValidationError as error:
        told: set[str] = set()
        for each in error.errors():
            key = str(each["loc"][0])
            # What is missing as a whole is the echo of a misspelt argument.
            if key not in told and not (unknown and key == "__root__"):
                told.add(key)
                yield _wrong_value(kind.__name__, key, each)


def _wrong_value(kind: str, key: str, error: Any) -> dict[str, Any]:
    if error["type"] == "value_error.missing":
        message, key = f"`{kind}` needs `{key}`", ""
    elif key == "__root__":
        message, key = f"`{kind}`: {error['msg']}", ""
    else:
        message = f"`{key}` of `{kind}`: {error['msg']}"
    return {"key": key, "message": message, "expected": None, "help": None, "on_key": False}


def _did_you_mean(word: str, known: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


if __name__ == "__main__":
    json.dump(judge(json.load(sys.stdin)), sys.stdout)
