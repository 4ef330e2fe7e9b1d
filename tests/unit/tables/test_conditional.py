"""The trial of a store: what it must let tables do, and what is told where it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from s3_answers import Store

from headgate.errors import SettingsError, TablesUnavailable
from headgate.tables.conditional import StoreRefused, require_conditional_put


def test_a_store_that_does_all_passes_and_keeps_nothing(store):
    answers, folder = store
    require_conditional_put(folder)
    assert answers.objects == {}


@pytest.mark.parametrize(
    "refused",
    [
        lambda method, _: method == "PUT",
        lambda method, _: method == "DELETE",
        lambda method, key: method == "GET" and not key,  # a list
        lambda method, key: method == "GET" and key,
    ],
    ids=["put", "delete", "list", "get"],
)
def test_credentials_that_lack_a_right_that_tables_need_are_refused(
    store: Store, refused: Callable[[str, str], object]
) -> None:
    answers, folder = store
    answers.refuses = lambda method, key: 403 if refused(method, key) else None
    with pytest.raises(StoreRefused, match="cannot be written to") as caught:
        require_conditional_put(folder)
    assert "put, read, list and delete" in str(caught.value)


@pytest.mark.parametrize("also", [None, "DELETE"])
def test_a_store_that_does_not_know_the_condition_is_refused_whatever_the_clean_up_meets(store, also):
    answers, folder = store
    answers.refuses = lambda method, _: {"PUT": 501, also: 403}.get(method)
    with pytest.raises(StoreRefused, match=r"no conditional put: .*501"):
        require_conditional_put(folder)


def test_a_put_whose_answer_was_lost_is_not_tried_again_and_is_no_reason_to_refuse(store):
    answers, folder = store
    answers.loses = lambda method, _: method == "PUT"
    with pytest.raises(TablesUnavailable, match="500"):
        require_conditional_put(folder)
    assert [method for method, _ in answers.asked].count("PUT") == 1
    answers.loses = lambda *_: False
    require_conditional_put(folder)


def test_a_store_that_shows_an_older_state_of_itself_is_refused(store):
    answers, folder = store
    answers.hides = True
    with pytest.raises(StoreRefused, match="a list of its folder does not name it"):
        require_conditional_put(folder)


def test_an_option_that_no_store_can_be_had_with_is_one_of_headgates_errors(store, monkeypatch):
    _, folder = store
    monkeypatch.setenv("AWS_S3_EXPRESS", "perhaps")
    with pytest.raises(TablesUnavailable, match="perhaps"):
        require_conditional_put(folder)


def test_locks_that_only_some_writers_look_at_are_refused_with_the_store(store, monkeypatch):
    answers, folder = store
    monkeypatch.setenv("AWS_S3_LOCKING_PROVIDER", "dynamodb")
    with pytest.raises(SettingsError, match="conditional put alone"):
        require_conditional_put(folder)
    assert answers.asked == []
