"""headgate starts fast and runs where Spark, Airflow and Great Expectations are not loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import headgate

HEAVY = ("pyspark", "py4j", "airflow", "great_expectations")
PACKAGE = Path(headgate.__file__).parent


def modules_of_headgate() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] != "airflow":
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


def loaded_after(code: str) -> list[str]:
    show = f"import sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{code}\n{show}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_no_module_of_headgate_loads_a_heavy_library():
    names = modules_of_headgate()
    assert "headgate.contract.loader" in names
    assert len(names) > 30
    code = "import importlib\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in names if not name.endswith("__main__")
    )
    assert loaded_after(code) == []


@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"]])
def test_the_command_line_says_its_help_without_a_heavy_library(words):
    code = (
        "import sys\nfrom headgate.cli.main import main\n"
        f"sys.argv = ['headgate', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    )
    assert loaded_after(code) == []
