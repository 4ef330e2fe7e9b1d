from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from stream_world import HASH

from headgate import __version__
from headgate.streams import handover, proc
from headgate.streams.model import DriverStatus, FailureClass, Phase, QueryProgress
from headgate.streams.observe import Look, Observer, newest_claim
from headgate.streams.record import Ending, Incarnation, StreamRecord, Upgrade
from headgate.streams.steps import Life

RECORD = StreamRecord("s", "s", HASH, phase=Phase.RUNNING, epoch=4, generation=1, attempted=1)
BEGUN = Incarnation("s", 4, 1, HASH, "no-such-prefix-4-aa", started_at=1000.0, host=socket.gethostname())
# A process id that is in use, with a start that is not its own: a driver that is gone.
GONE = replace(BEGUN, driver_pid=os.getpid(), driver_ticks=1, boot_id=proc.boot_id())


@dataclass
class Clock:
    now: float = 50.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Site:
    folder: Path
    clock: Clock
    observer: Observer

    def look(self, incarnation: Incarnation | None) -> Look:
        self.observer.begin()
        return self.observer.look(RECORD, incarnation)

    def look_since(self, moment: float) -> Look:
        self.observer.begin()
        return self.observer.look(replace(RECORD, phase_since=moment), GONE)

    def report(self, **changes: object) -> None:
        status = DriverStatus(
            stream="s",
            pipeline="s",
            epoch=4,
            generation=1,
            contract_hash=HASH,
            lineage="l",
            headgate_version=__version__,
            pid=1,
            phase="failed",
            written_at=1.0,
        )
        handover._write(self.folder / "status.json", replace(status, **changes).to_json())  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder, clock = tmp_path / "streams" / "s", Clock()
    folder.mkdir(parents=True)
    log = tmp_path / "s.log"
    observer = Observer(lambda stream: folder, lambda stream: log, tmp_path / "checkpoints", monotonic=clock)
    return Site(folder, clock, observer)


def exited(site: Site, returncode: int | None, number: int | None = None) -> Look:
    handover.write_exit(site.folder, 4, handover.ExitNote(returncode, number, 9.0))
    return site.look(GONE)


def test_nothing_was_launched_is_believed_only_after_a_moment(site: Site) -> None:
    assert site.look(BEGUN).seen.life is Life.PENDING
    site.clock.now += 5
    assert site.look(BEGUN).seen.life is Life.NEVER


def test_a_runner_that_took_its_lock_and_left_nothing_is_dead(site: Site) -> None:
    handover.claim(site.folder, 4)
    look = site.look(BEGUN)
    assert (look.seen.life, look.seen.returncode, look.seen.signal) == (Life.DEAD, None, None)
    assert look.seen.diagnosis is not None
    assert look.seen.diagnosis.failure is FailureClass.TRANSIENT


def test_a_closed_incarnation_leaves_nothing(site: Site) -> None:
    closed = replace(GONE, ended_at=2.0, ending=Ending("stopped"))
    assert site.look(closed).seen.life is Life.NONE
    assert site.look(None).seen.life is Life.NONE


def test_the_drivers_own_word_decides_what_it_died_of(site: Site) -> None:
    site.report(failure_class="data_loss", failure_condition="KAFKA_DATA_LOSS", failure_message="gone\ntrace")
    found = exited(site, 10).seen.diagnosis
    assert found is not None
    assert (found.failure, found.rule, found.evidence) == (FailureClass.DATA_LOSS, "KAFKA_DATA_LOSS", "gone")


def test_the_word_of_an_older_epoch_does_not_count(site: Site) -> None:
    site.report(epoch=3, failure_class="data_loss")
    found = exited(site, None, 9).seen.diagnosis
    assert found is not None
    assert found.failure is FailureClass.TRANSIENT


def test_a_class_that_nobody_knows_is_unknown(site: Site) -> None:
    site.report(failure_class="invented")
    found = exited(site, 10).seen.diagnosis
    assert found is not None
    assert found.failure is FailureClass.UNKNOWN


def test_without_a_word_the_last_traceback_of_this_epoch_is_read(site: Site, tmp_path: Path) -> None:
    (tmp_path / "s.log").write_text(
        "x runner: epoch 3, generation 1: python\nTraceback (most recent call last):\nNo space left\n"
        "x runner: epoch 4, generation 1: python\nTraceback (most recent call last):\n"
        "ModuleNotFoundError: No module named 'spark'\n"
    )
    found = exited(site, 1).seen.diagnosis
    assert found is not None
    assert (found.failure, found.evidence) == (FailureClass.DETERMINISTIC, "ModuleNotFoundError")


def test_an_older_epochs_traceback_is_not_this_ones(site: Site, tmp_path: Path) -> None:
    (tmp_path / "s.log").write_text(
        "x runner: epoch 3, generation 1: python\nTraceback (most recent call last):\nNo space left\n"
        "x runner: epoch 4, generation 1: python\nkilled without a word\n"
    )
    found = exited(site, 1).seen.diagnosis
    assert found is not None
    assert found.failure is FailureClass.UNKNOWN


def test_a_driver_of_another_host_is_out_of_sight(site: Site) -> None:
    far = replace(GONE, host="far", boot_id="another-kernel")
    look = site.look(far)
    assert (look.seen.life, look.seen.host) == (Life.ELSEWHERE, "far")


def test_a_driver_of_another_container_on_this_kernel_is_dead_once_its_lock_is_free(site: Site) -> None:
    beside = replace(GONE, host="other-container")
    lock = handover.hold(site.folder, 0.0)
    assert lock is not None
    assert site.look(beside).seen.life is Life.ELSEWHERE
    os.close(lock)
    assert site.look(beside).seen.life is Life.DEAD


def test_progress_and_health_come_from_this_incarnations_own_commits(site: Site) -> None:
    old = QueryProgress(batch_id=7, last_commit_at=999.0)
    site.report(phase="running", queries={"records": old})
    seen = site.look(GONE).seen
    assert (seen.up, seen.progressed, seen.healthy) == (True, False, True)
    site.report(phase="running", queries={"records": replace(old, last_commit_at=1001.0)})
    assert site.look(GONE).seen.progressed
    site.report(phase="running", queries={"records": replace(old, last_idle_at=1001.0)})
    assert not site.look(GONE).seen.progressed


def test_what_other_queries_committed_is_no_progress_of_the_one_that_failed(site: Site) -> None:
    """Else a query that dies at each start would be restarted for ever while another one has input."""
    queries = {"records": QueryProgress(), "counts": QueryProgress(last_commit_at=1001.0)}
    site.report(queries=queries, failure_query="records")
    assert not site.look(GONE).seen.progressed
    site.report(queries=queries, failure_query="counts")
    assert site.look(GONE).seen.progressed
    site.report(queries=queries)
    assert site.look(GONE).seen.progressed, "nobody knows whose failure it was"


def test_a_death_on_trial_that_nobody_can_name_is_none_of_a_query_that_committed(site: Site) -> None:
    """A window that is killed for its memory each time would be on trial for ever."""
    trial = replace(RECORD, upgrade=Upgrade(HASH, "d" * 64, "upgrade-1", 1.0))
    queries = {"records": QueryProgress(last_commit_at=1001.0), "counts": QueryProgress()}
    site.report(queries=queries)
    assert not site.observer.look(trial, GONE).seen.progressed
    site.report(queries=queries, failure_query="records")
    assert site.observer.look(trial, GONE).seen.progressed
    site.report(queries={**queries, "counts": QueryProgress(last_idle_at=1001.0)})
    assert site.observer.look(trial, GONE).seen.progressed


def test_a_stream_is_well_when_each_of_its_queries_is(site: Site) -> None:
    """Else failures of a query that dies after a minute each time would be forgotten in between."""
    well, silent = QueryProgress(last_commit_at=1001.0), QueryProgress()
    for other, signs in (
        (silent, (False, False, False)),
        (replace(silent, last_task_at=1002.0), (False, False, True)),
        (replace(silent, last_idle_at=1002.0), (True, True, True)),
    ):
        site.report(phase="running", queries={"records": well, "counts": other})
        seen = site.look_since(1000.5).seen
        assert seen.progressed
        assert (seen.each_progressed, seen.healthy, seen.shown) == signs
    site.report(phase="running", queries={})
    seen = site.look_since(1000.5).seen
    assert not (seen.each_progressed or seen.healthy or seen.shown)


def test_a_driver_settles_until_its_report_has_a_lineage(site: Site) -> None:
    site.report(phase="starting", lineage="")
    assert (site.look(GONE).seen.settles, site.look(GONE).seen.reported_at) == (True, 1.0)
    site.report(phase="starting", lineage="l")
    assert not site.look(GONE).seen.settles


def test_a_report_that_cannot_be_read_is_said_and_changes_nothing_else(site: Site) -> None:
    (site.folder / "status.json").write_text("{")
    look = site.look(GONE)
    assert look.report is None
    assert "is not JSON" in (look.report_problem or "")
    assert look.seen.life is Life.DEAD


def test_the_newest_claim_ignores_what_is_not_an_epoch(tmp_path: Path) -> None:
    owners = tmp_path / "s" / "_owner"
    assert newest_claim(tmp_path, "s") == 0
    owners.mkdir(parents=True)
    for name in ("3", "12", "notes.txt", ".tmp"):
        (owners / name).touch()
    assert newest_claim(tmp_path, "s") == 12
