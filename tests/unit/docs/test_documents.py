from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import typer

from headgate.cli.main import build_app
from headgate.contract.loader import LoadedContract, parse_contract

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import contract_reference  # noqa: E402

DOCUMENTS = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
# A command stands in a code block or between backticks: what follows is prose.
_CODE = re.compile(r"```.*?```|^ {4}\S[^\n]*$|`[^`]+`", re.MULTILINE | re.DOTALL)
_HEADGATE = re.compile(r"(?:^|[\s`(;&|=])headgate ((?:--[a-z-]+ )*)([a-z][a-z-]*)((?:[ \t]+[^\n`;&|#]+)?)")
_MAKE = re.compile(r"(?:^|[\s`(;&|])make ([a-z][a-z0-9-]*)")
_OPTION = re.compile(r"(?<!\S)(--?[a-z][a-z-]*)")


def _command_of(name: str) -> typer.core.TyperCommand | None:
    group = typer.main.get_command(build_app())
    return getattr(group, "commands", {}).get(name)


def _code(path: Path) -> list[str]:
    return [match.group(0) for match in _CODE.finditer(path.read_text(encoding="utf-8"))]


def _commands(path: Path) -> set[tuple[str, str]]:
    return {(m.group(2), m.group(3)) for text in _code(path) for m in _HEADGATE.finditer(text)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_headgate_command_in_a_document_exists_with_its_options(path: Path) -> None:
    for verb, rest in _commands(path):
        command = _command_of(verb)
        assert command is not None, f"{path.name}: `headgate {verb}` does not exist"
        known = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        unknown = set(_OPTION.findall(rest)) - known - {"--help"}
        assert not unknown, f"{path.name}: `headgate {verb}` has no {', '.join(sorted(unknown))}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_in_a_document_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    named = {target for text in _code(path) for target in _MAKE.findall(text)}
    assert named <= targets, f"{path.name}: no target {', '.join(sorted(named - targets))}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_it(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target} is not there"


def test_commands_are_found_in_blocks_and_between_backticks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "A headgate status of prose.\n\n    headgate plan orders --json\n\nand `headgate nonsense`",
        encoding="utf-8",
    )
    assert {verb for verb, _ in _commands(page)} == {"plan", "nonsense"}
    assert _command_of("nonsense") is None


@pytest.mark.parametrize("name", ["README.md", "docs/guides/contract.md"])
def test_the_example_contracts_are_valid(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    contracts = [block for block in blocks if "pipeline:" in block]
    assert contracts
    for number, block in enumerate(contracts):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        parsed = parse_contract(file)
        assert isinstance(parsed, LoadedContract), f"{name}: {parsed}"


def test_the_table_of_contract_keys_is_that_of_the_models() -> None:
    page = contract_reference.PAGE.read_text(encoding="utf-8")
    assert page == contract_reference.page_text(page), "run `make docs`"


def test_every_key_of_a_contract_has_a_meaning_and_no_other() -> None:
    for kind, meanings in contract_reference.MEANINGS.items():
        assert set(meanings) == set(kind.model_fields), kind.__name__


def test_the_readme_lists_every_verb_of_the_command_line() -> None:
    group = typer.main.get_command(build_app())
    named = {verb for verb, _ in _commands(ROOT / "README.md")}
    assert set(getattr(group, "commands", {})) - named == set()
