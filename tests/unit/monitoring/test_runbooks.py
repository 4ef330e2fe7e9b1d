from __future__ import annotations

import re

import pytest

from headgate.streams.policy import Policy, backoff_seconds
from monitoring.alerts import ALERTS, Alert
from monitoring.runbooks import HEADINGS, runbook_html, runbooks_folder
from tests.helpers.commands import code_of, commands_in, complaint, verbs

alerts = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
FOLDER = runbooks_folder()


def _text(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def _named_verbs(text: str) -> set[str]:
    """Verbs of commands, that is of `headgate …` in code; a DAG id or a metric is something else."""
    return {
        verb for code in re.findall(r"`([^`\n]+)`", text) for verb in re.findall(r"^headgate ([a-z]+)", code)
    }


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    files = {path.stem for path in FOLDER.glob("*.md")} - {"README"}
    assert files == {alert.name for alert in ALERTS}


@alerts
def test_a_runbook_has_the_headings_in_their_order(alert: Alert) -> None:
    assert tuple(re.findall(r"^## (.+)$", _text(alert.name), re.MULTILINE)) == HEADINGS
    assert _text(alert.name).startswith(f"# {alert.name}\n")


@alerts
def test_no_part_of_a_runbook_is_empty(alert: Alert) -> None:
    parts = re.split(r"^## .+$", _text(alert.name), flags=re.MULTILINE)[1:]
    assert all(len(part.strip()) > 20 for part in parts[:-1])
    assert re.search(r"\d", parts[-1])  # rows of the fault matrix


@alerts
def test_is_it_real_has_a_query_and_a_command(alert: Alert) -> None:
    part = _text(alert.name).split("## Is it real")[1].split("## ")[0]
    assert "PromQL: `" in part and _named_verbs(part)


@alerts
def test_a_diagnosis_has_at_most_seven_steps(alert: Alert) -> None:
    part = _text(alert.name).split("## Diagnosis")[1].split("## ")[0]
    assert 3 <= len(re.findall(r"^\d\. ", part, re.MULTILINE)) <= 7


@alerts
def test_a_runbook_names_only_commands_that_exist_with_their_options(alert: Alert) -> None:
    named = [command for code in code_of(_text(alert.name)) for command in commands_in(code)]
    assert named
    assert [told for command in named if (told := complaint(command))] == []


@alerts
def test_an_alert_names_only_commands_that_exist(alert: Alert) -> None:
    verb = re.search(r"Next: headgate (\w+)", alert.summary)
    assert verb is not None and verb[1] in verbs()
    assert [told for command in commands_in(alert.summary) if (told := complaint(command))] == []


@alerts
def test_links_between_runbooks_lead_somewhere(alert: Alert) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", _text(alert.name)):
        assert (FOLDER / target).is_file()


def test_the_list_of_runbooks_is_whole_and_right() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(\w+\.md\) \| (\w+) \|", _text("README"), re.MULTILINE)
    assert dict(rows) == {alert.name: alert.severity for alert in ALERTS}


def test_a_runbook_becomes_html_by_its_name_only() -> None:
    html = runbook_html("StreamDown")
    assert html is not None and "<h2>Diagnosis</h2>" in html and "<code>" in html
    assert runbook_html("Nothing") is None
    assert runbook_html("../README") is None


def _pauses() -> list[float]:
    """Those of the policy without its spread: jitter 0.5 is the middle."""
    return [backoff_seconds(number, Policy(), 0.5) for number in range(1, 7)]


def test_the_runbook_of_restart_loops_has_the_pauses_of_the_policy() -> None:
    reasoning = _text("StreamRestartLoop").split("## Why this threshold")[1].split("## ")[0]
    figures = re.search(r"pauses ((?:[\d.]+, )+)then ([\d.]+) s", reasoning)
    assert figures is not None
    told = [float(figure) for figure in figures[1].rstrip(", ").split(", ")] + [float(figures[2])]
    assert told == _pauses()
    assert backoff_seconds(7, Policy(), 0.5) == told[-1]


def test_the_reasoning_on_restart_loops_follows_from_the_policy() -> None:
    reasoning = _text("StreamRestartLoop").split("## Why this threshold")[1].split("## ")[0]
    fourth = re.search(r"fourth restart, the first that pages, comes after (\d+) s of pauses", reasoning)
    assert fourth is not None and int(fourth[1]) == round(sum(_pauses()[:4]))
    parks = re.search(
        r"parks it at the (\w+) death without a committed batch within (\d+) minutes", reasoning
    )
    assert parks is not None
    assert ("first", "second", "third", "fourth", "fifth").index(parks[1]) + 1 == Policy().brake_failures
    assert int(parks[2]) * 60 == Policy().brake_window
