"""A replay works beside tables on a disk alone."""

from __future__ import annotations

from typing import Any

import pytest
from small_contract import small_contract

from headgate.errors import RefusedError
from headgate.replays import planning
from headgate.replays.ranges import Place
from headgate.settings import load_settings


def test_a_replay_of_tables_on_s3_is_refused_before_anything_is_asked_or_made(tmp_path, monkeypatch):
    def asked(*_: Any) -> None:
        raise AssertionError("Kafka was asked")

    monkeypatch.setattr(planning, "_contract", lambda *_: small_contract("p", job={}))
    monkeypatch.setattr(planning, "admin_client", asked)
    settings = load_settings(tmp_path, {"HEADGATE_ROOTS_TABLES": "s3://lake/a"})[0]
    with pytest.raises(RefusedError, match=r"a replay cannot be had of tables on S3, .* s3://lake/a"):
        planning.plan_replay(settings, "p", Place("earliest"), Place("now"), by="tests")
    assert list(tmp_path.iterdir()) == []
