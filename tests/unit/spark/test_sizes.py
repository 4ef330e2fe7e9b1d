"""What first batches are sized by: what is looked at, else what an earlier driver measured, else nothing."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

from spark import sizes as module
from spark.sizes import RecordSizes


class Caps:
    def __init__(self) -> None:
        self.told: tuple[Any, Any] | None = None

    def sampled(self, found: Any, before: Any) -> None:
        self.told = found, before

    def sizes(self) -> dict[str, float]:
        return {"ta": 3_000.0}


def test_what_cannot_be_looked_at_is_taken_for_what_it_was_or_for_large(tmp_path, monkeypatch, caplog):
    kept = tmp_path / "sizes.json"
    kept.write_text(json.dumps({"tb": 2_048.0}))
    monkeypatch.setattr(module, "Sampling", lambda *_: SimpleNamespace(result=lambda: {"ta": 10.0}))
    frozen: Any = SimpleNamespace(topics={"a": "ta", "b": "tb", "c": "tc"})
    caps: Any = Caps()
    sizes = RecordSizes(None, frozen, caps, dict, kept)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        sizes.settle()
    assert caps.told == ({"ta": 10.0}, {"tb": 2_048.0})
    assert "the records of tb are taken for about 2,048 bytes each, as measured before" in caplog.text
    assert "the records of tc are taken for large ones: small batches" in caplog.text
    assert "of ta" not in caplog.text
    sizes.keep()
    assert json.loads(kept.read_text()) == {"ta": 3_000.0, "tb": 2_048.0}
