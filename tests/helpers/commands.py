"""Commands that texts name, held against the command line that there is."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from headgate.cli.main import build_app

__all__ = ["NamedCommand", "code_of", "commands_in", "complaint", "strings_of", "verbs"]

# A command stands in a code block or between backticks: what follows is prose.
_CODE = re.compile(r"```.*?```|^ {4}\S[^\n]*$|`[^`]+`", re.MULTILINE | re.DOTALL)
_HEADGATE = re.compile(r"(?:^|[\s`(;&|=])headgate ((?:--[a-z-]+ )*)([a-z][a-z-]*)((?:[ \t]+[^\n`;&|#]+)?)")
_BELOW = re.compile(r"\s*([a-z][a-z-]*)")
_OPTION = re.compile(r"(?<!\S)(--?[a-z][a-z-]*)")
_FILLED = "X"  # what stands for an expression of an f-string


@dataclass(frozen=True, slots=True)
class NamedCommand:
    """`headgate <before> <verb> <rest>` as a text has it."""

    before: str
    verb: str
    rest: str

    def __str__(self) -> str:
        return f"headgate {self.before}{self.verb}{self.rest}"


def code_of(text: str) -> list[str]:
    """The parts of a Markdown text that are code."""
    return [match.group(0) for match in _CODE.finditer(text)]


def commands_in(text: str) -> list[NamedCommand]:
    return [NamedCommand(*found) for found in _HEADGATE.findall(text)]


def strings_of(file: Path, keyword: str | None = None) -> Iterator[str]:
    """The literals of a Python file but for docstrings, f-strings with a letter for each expression.

    With `keyword` only those that are given as this argument.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    trees: list[ast.AST] = [tree]
    if keyword is not None:
        trees = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == keyword
        ]
    for each in trees:
        yield from _literals(each)


def _literals(tree: ast.AST) -> Iterator[str]:
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in parts or id(node) in prose:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else _FILLED for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def verbs() -> set[str]:
    return set(getattr(_group(), "commands", {}))


def complaint(command: NamedCommand) -> str | None:
    """What is wrong with it: the verb, one below it, an option of its, or one before it; None for nothing."""
    verb, found = command.verb, getattr(_group(), "commands", {}).get(command.verb)
    inner, below = getattr(found, "commands", {}), _BELOW.match(command.rest)
    if inner and below:
        verb, found = f"{verb} {below[1]}", inner.get(below[1])
    if found is None:
        return f"`headgate {verb}` does not exist"
    for holder, text, name in ((_group(), command.before, ""), (found, command.rest, f" {verb}")):
        unknown = set(_OPTION.findall(text)) - _options(holder) - {"--help"}
        if unknown:
            return f"`headgate{name}` has no {', '.join(sorted(unknown))}"
    return None


@functools.cache
def _group() -> Any:
    return typer.main.get_command(build_app())


def _options(command: Any) -> set[str]:
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
