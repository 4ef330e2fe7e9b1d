from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headgate.checkpoints.owner import FencedError, OwnerClaim


def taken(folder: Path, epoch: int) -> OwnerClaim:
    claim = OwnerClaim(folder, epoch)
    claim.take({"pid": 1, "epoch": epoch})
    return claim


def test_a_claim_is_taken_once_and_notes_who_took_it(tmp_path):
    taken(tmp_path / "_owner", 3)
    assert json.loads((tmp_path / "_owner" / "3").read_text()) == {"pid": 1, "epoch": 3}
    with pytest.raises(FencedError, match="epoch 3 was claimed before"):
        taken(tmp_path / "_owner", 3)


def test_a_higher_epoch_fences_the_lower_one(tmp_path):
    old = taken(tmp_path, 1)
    old.check()
    new = taken(tmp_path, 2)
    with pytest.raises(FencedError, match="epoch 2 has taken over from epoch 1"):
        old.check()
    new.check()


def test_a_lower_epoch_cannot_be_taken_any_more_and_leaves_nothing(tmp_path):
    taken(tmp_path, 10)  # as numbers: as text, 10 would be below 9
    with pytest.raises(FencedError, match="epoch 10 has taken over from epoch 9"):
        taken(tmp_path, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


def test_files_that_are_no_epochs_are_passed_over(tmp_path):
    (tmp_path / "note.txt").write_text("")
    (tmp_path / "99.tmp").write_text("")
    taken(tmp_path, 1).check()


def test_of_many_that_claim_one_epoch_at_once_one_gets_it(tmp_path):
    def attempt(_: int) -> bool:
        try:
            taken(tmp_path, 5)
        except FencedError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(attempt, range(64)))
    assert results.count(True) == 1


def test_of_racing_epochs_only_the_highest_may_write(tmp_path):
    with ThreadPoolExecutor(16) as pool:

        def attempt(epoch: int) -> OwnerClaim | None:
            try:
                return taken(tmp_path, epoch)
            except FencedError:
                return None

        claims = [claim for claim in pool.map(attempt, range(1, 60)) if claim is not None]
    may_write = []
    for claim in claims:
        try:
            claim.check()
            may_write.append(claim.epoch)
        except FencedError:
            assert claim.epoch < 59
    assert may_write == [59]


def test_fenced_has_the_drivers_exit_code():
    assert FencedError.exit_code == 11
