"""A check says what it found in whatever process it runs."""

from __future__ import annotations

import subprocess
import sys

CHECK = """
import pandas
from headgate.quality.check import _validate
from headgate.quality.suites import PlannedExpectation

not_null = PlannedExpectation("ExpectColumnValuesToNotBeNull", {"column": "level"}, "critical")
print([each.success for each in _validate("o", pandas.DataFrame({"level": ["a", None]}), [not_null], {})])
"""


def test_a_process_whose_main_module_has_no_file_still_checks() -> None:
    """PySpark, which Great Expectations loads, would end such a process with 0."""
    ended = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "[False]\n"), ended.stderr
