"""What somebody probably meant."""

from __future__ import annotations

import pytest

from headgate.suggest import closest, did_you_mean


@pytest.mark.parametrize("word", ["rom", "roomm", "orom"])
def test_a_slip_of_one_letter_finds_the_word(word: str) -> None:
    assert closest(word, {"room": 1, "minute": 2}) == "room"
    assert did_you_mean(word, ["minute", "room"]) == "did you mean `room`?"


def test_nothing_is_said_of_a_word_that_is_like_none() -> None:
    assert closest("celsius", ["minute", "room"]) is None
    assert did_you_mean("celsius", []) is None
