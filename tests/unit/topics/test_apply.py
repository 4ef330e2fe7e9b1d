"""What an apply asks before it changes anything; the rest of it is in tests/e2e."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headgate.settings import Settings
from headgate.tables.conditional import StoreRefused
from headgate.topics import apply
from headgate.topics.differences import Action


class Asked(Exception):
    """The broker is next."""


@pytest.mark.parametrize(
    ("kinds", "error"),
    [
        ([], Asked),
        (["create_topic", "put_contract"], Asked),
        (["create_topic", "create_table"], StoreRefused),
        (["add_columns"], StoreRefused),
    ],
)
def test_a_store_is_tried_by_an_apply_that_writes_tables_and_by_no_other(tmp_path, monkeypatch, kinds, error):
    def refused(_: Any) -> None:
        raise StoreRefused("it takes both")

    def asked(*_: Any) -> None:
        raise Asked

    settings = Settings(home=tmp_path)
    monkeypatch.setattr(apply, "require_conditional_put", refused)
    monkeypatch.setattr(apply, "_still_valid", asked)
    actions = tuple(Action(kind, "a", "p", "s", "r", {}) for kind in kinds)
    plan: Any = SimpleNamespace(env=settings.env, refusals=(), actions=actions)
    with pytest.raises(error):
        apply.apply_plan(settings, plan, by="tests")
