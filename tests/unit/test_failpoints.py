from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate import failpoints
from headgate.errors import RefusedError
from headgate.failpoints import BOUNDARIES, NAMES, WATCH, FailpointError, Order
from headgate.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def torture(tmp_path: Path) -> Iterator[Settings]:
    yield Settings(home=tmp_path, env="torture")
    failpoints.disarm()


def test_a_failpoint_of_an_ordinary_driver_does_nothing(tmp_path: Path) -> None:
    failpoints.arm(Settings(home=tmp_path), epoch=1)
    for name in NAMES:
        failpoints.hit(name)
    assert not (tmp_path / "var").exists()


def test_a_driver_that_finds_failpoints_in_an_ordinary_environment_refuses_to_start(
    torture: Settings,
) -> None:
    failpoints.place(torture, "one", Order("records.gate", "kill"))
    ordinary = torture.model_copy(update={"env": "production"})
    with pytest.raises(RefusedError, match="this is the environment 'production'"):
        failpoints.arm(ordinary, epoch=1)


@pytest.mark.parametrize(("env", "name"), [("local", "records.gate"), ("torture", "records.nowhere")])
def test_no_order_is_given_outside_a_torture_installation_or_for_an_unknown_name(
    tmp_path: Path, env: str, name: str
) -> None:
    with pytest.raises(RefusedError):
        failpoints.place(Settings(home=tmp_path, env=env), "one", Order(name, "kill"))


def test_an_order_is_carried_out_at_its_hit_and_never_again(torture: Settings) -> None:
    failpoints.arm(torture, epoch=1)
    file = failpoints.place(torture, "one", Order("records.after_delta", "raise", hit=3))
    failpoints.hit("records.before_delta")
    failpoints.hit("records.after_delta")
    failpoints.hit("records.after_delta")
    with pytest.raises(FailpointError, match=r"records\.after_delta"):
        failpoints.hit("records.after_delta")
    failpoints.hit("records.after_delta")
    assert not file.exists()
    assert file.with_suffix(".fired").exists()
    assert {path.name for path in (torture.state / "failpoints" / "seen").iterdir()} == {
        "records.before_delta",
        "records.after_delta",
    }


def test_an_order_for_one_incarnation_leaves_the_others_alone(torture: Settings) -> None:
    failpoints.place(torture, "one", Order("records.gate", "raise", epoch=2))
    failpoints.arm(torture, epoch=1)
    failpoints.hit("records.gate")
    failpoints.arm(torture, epoch=2)
    with pytest.raises(FailpointError):
        failpoints.hit("records.gate")


def test_a_held_thread_goes_on_when_its_order_is_taken_away(torture: Settings) -> None:
    failpoints.arm(torture, epoch=1)
    fired = failpoints.place(torture, "one", Order("records.gate", "hold")).with_suffix(".fired")
    thread = threading.Thread(target=failpoints.hit, args=("records.gate",))
    thread.start()
    while not fired.exists():
        time.sleep(0.01)
    assert thread.is_alive()
    fired.unlink()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(("action", "state"), [("kill", None), ("stop", "T")])
def test_a_driver_can_kill_or_freeze_itself_with_its_children(
    torture: Settings, action: str, state: str | None
) -> None:
    code = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from headgate import failpoints\n"
        "from headgate.settings import Settings\n"
        f"settings = Settings(home=Path({str(torture.home)!r}), env='torture')\n"
        f"failpoints.place(settings, 'one', failpoints.Order('records.gate', {action!r}))\n"
        "failpoints.arm(settings, 1)\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "failpoints.hit('records.gate')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        if state is None:
            assert process.wait(30) == -9
            assert _state(child) in (None, "Z")
        else:
            end = time.monotonic() + 30
            while (_state(process.pid), _state(child)) != (state, state) and time.monotonic() < end:
                time.sleep(0.02)
            assert (_state(process.pid), _state(child)) == (state, state)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if _state(child) not in (None, "Z"):
            import os

            os.kill(child, 9)


def _state(pid: int) -> str | None:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


def _hit_in(path: Path) -> list[str]:
    return re.findall(r'\bhit\("([a-z_.]+)"\)', path.read_text(encoding="utf-8"))


def test_the_names_are_those_in_the_drivers_code() -> None:
    found = {path.name: _hit_in(path) for path in (ROOT / "spark").glob("*.py")}
    in_arrow = found.pop("arrow_lane.py")
    assert sorted(name for names in found.values() for name in names) == sorted(BOUNDARIES)
    # The Arrow lane keeps the books with the other lane's code, and has no outputs in Redis.
    shared = ("books", "commit", "redis")
    own = [name for name in BOUNDARIES if name.startswith("records.") and not name.endswith(shared)]
    assert sorted(in_arrow) == sorted(own)
    assert "failpoints.hit(failpoints.WATCH)" in (ROOT / "spark" / "driver.py").read_text(encoding="utf-8")
    assert WATCH in NAMES
