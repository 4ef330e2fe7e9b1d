from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from headgate.contract.loader import LoadedContract, parse_contract
from tests.helpers.commands import NamedCommand, code_of, commands_in, complaint, strings_of, verbs

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import contract_reference  # noqa: E402

DOCUMENTS = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
_MAKE = re.compile(r"(?:^|[\s`(;&|])make ([a-z][a-z0-9-]*)")


def _code(path: Path) -> list[str]:
    return code_of(path.read_text(encoding="utf-8"))


def _commands(path: Path) -> list[NamedCommand]:
    return [command for text in _code(path) for command in commands_in(text)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_headgate_command_in_a_document_exists_with_its_options(path: Path) -> None:
    assert [told for command in _commands(path) if (told := complaint(command))] == []


@pytest.mark.parametrize("folder", ["headgate", "monitoring", "producers", "serving", "spark"])
def test_every_command_that_a_message_names_exists_with_its_options(folder: str) -> None:
    problems = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        told = [command for text in strings_of(file) for command in commands_in(text)]
        advised = [command for text in strings_of(file, keyword="help") for command in commands_in(text)]
        # Outside of what says what to do next, `headgate` may be a word of a sentence.
        named = [command for command in told if command.verb in verbs()] + advised
        problems += [f"{file.name}: {command}: {why}" for command in named if (why := complaint(command))]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("headgate --debug check orders", None),
        ("headgate check orders --json", None),
        ("headgate check orders --debug", "`headgate check` has no --debug"),
        ("headgate --json check orders", "`headgate` has no --json"),
        ("headgate chekc orders", "`headgate chekc` does not exist"),
        ("headgate logs kafka -n 3 -f", None),
        ("headgate logs kafka -q", "`headgate logs` has no -q"),
        ("headgate replay start orders --from earliest", None),
        ("headgate replay status X --from earliest", "`headgate replay status` has no --from"),
        ("headgate replay rewind X", "`headgate replay rewind` does not exist"),
    ],
)
def test_a_wrong_command_is_found(text: str, why: str | None) -> None:
    [command] = commands_in(text)
    assert complaint(command) == why


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
    assert {command.verb for command in _commands(page)} == {"plan", "nonsense"}


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
    assert verbs() - {command.verb for command in _commands(ROOT / "README.md")} == set()
