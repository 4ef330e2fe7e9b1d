"""What the expectation of a torture does about a registry that is away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from spark import expect


def test_a_registry_is_waited_for_and_not_for_ever(monkeypatch):
    clock = [100.0]
    slept = SimpleNamespace(
        monotonic=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds)
    )
    monkeypatch.setattr(expect, "time", slept)
    stopping = expect._patience()
    assert not stopping(expect.PATIENCE_SECONDS - 1)
    clock[0] += 10 * expect.PATIENCE_SECONDS  # Spark at work: nothing was waited for
    assert not stopping(0)
    assert stopping(2)


@pytest.mark.parametrize(("missing", "told"), [("the registry", "waiting: the registry\n"), (None, "")])
def test_what_is_waited_for_is_in_the_log(capsys, missing, told):
    expect._tell(missing)
    assert capsys.readouterr().err == told
