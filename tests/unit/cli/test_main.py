"""The frame of the command line: version, usage errors, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate import __version__
from headgate.cli import planning, platform, streams
from headgate.cli.main import run


def test_the_version_is_printed_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"headgate {__version__}\n"


def test_an_unknown_verb_exits_64_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["aply"]) == 64
    assert "aply" in capsys.readouterr().err


class Surprise(Exception):
    pass


@pytest.fixture
def surprised(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Let `headgate urls` raise what is given."""

    def arrange(error: Exception) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.delenv("HEADGATE_DEBUG", raising=False)
        monkeypatch.setattr(platform, "load_settings", fail)

    return arrange


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Surprise("one\ntwo"), "error: Surprise: one;"),
        (Surprise(), "error: Surprise;"),
        (OSError(28, "No space left on device", "/disk/file"), "error: No space left on device: /disk/file;"),
        (OSError("odd"), "error: OSError: odd;"),
        (Surprise("redis://:hunter2@cache is odd"), "error: Surprise: redis://:***@cache is odd;"),
    ],
)
def test_what_nobody_foresaw_is_one_line_and_exit_1(
    capsys: pytest.CaptureFixture[str],
    surprised: Callable[[Exception], None],
    error: Exception,
    told: str,
) -> None:
    surprised(error)
    assert run(["urls"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(told)
    assert shown.count("\n") == 1 and "--debug" in shown


def test_with_debug_it_is_raised_as_it_is(
    surprised: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    surprised(Surprise("one"))
    monkeypatch.setenv("HEADGATE_DEBUG", "1")
    with pytest.raises(Surprise):
        run(["urls"])


def test_a_service_keeps_the_traceback_in_its_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise Surprise("one")

    monkeypatch.delenv("HEADGATE_DEBUG", raising=False)
    monkeypatch.setattr(streams, "read_settings", fail)
    assert run(["supervisor"]) == 1
    told = capsys.readouterr().err
    assert "in fail" in told and told.splitlines()[-1].startswith("error: Surprise: one;")


def test_a_plan_for_a_folder_that_is_not_there_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nothing:
        exit_code = 0
        contracts = ()

        def to_json(self) -> dict[str, object]:
            return {}

    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    monkeypatch.setattr(planning, "_make", lambda *_: Nothing())
    assert run(["plan", "-o", str(tmp_path / "no" / "plan.json")]) == 1
    assert "the plan cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"actions": 3}', "no json"])
def test_what_is_no_plan_is_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    assert run(["apply", "-p", str(tmp_path / "plan.json")]) == 64
    assert "is not a plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ["urls", "--json"]),
        (0, ["urls"]),
        (0, ["schema"]),
        (0, ["logs", "kafka", "-n", "9000"]),
        (0, ["logs", "kafka", "-n", "9000", "-f"]),
        (7, None),
    ],
)
def test_a_reader_that_has_read_enough_changes_no_exit_code(
    code: int, arguments: list[str] | None, tmp_path: Path
) -> None:
    (log := tmp_path / "var" / "log" / "kafka.log").parent.mkdir(parents=True)
    log.write_text("a line of the log\n" * 9000, encoding="utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from headgate.cli.main import main; main()", *(arguments or ())]
    if arguments is None:
        command[-1] = "from headgate.cli.output import *; write('a'); out.print('b'); print_json(3); exit(7)"
    environment = {**os.environ, "HEADGATE_HOME": str(tmp_path)}
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            command, env=environment, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert (done.returncode, done.stderr) == (code, "")
