"""The frame of the command line: version, usage errors, exit codes."""

from __future__ import annotations

import pytest

from headgate import __version__
from headgate.cli.main import run


def test_the_version_is_printed_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"headgate {__version__}\n"


def test_an_unknown_verb_exits_64_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["aply"]) == 64
    assert "aply" in capsys.readouterr().err
