from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serving.results import PublishOutcome
from spark.context import DriverContext


@pytest.mark.parametrize(("event_time", "by_event_time"), [("at", True), (None, False)])
def test_a_batch_is_published_as_the_contract_says_also_when_it_has_no_rows(
    event_time: str | None, by_event_time: bool
) -> None:
    published: list[dict[str, Any]] = []

    class Results:
        def publish(self, *_: str, **options: Any) -> PublishOutcome:
            published.append(options)
            return PublishOutcome.WRITTEN

    frozen = SimpleNamespace(
        pipeline="p",
        contract=SimpleNamespace(outputs={"o": SimpleNamespace(to=[SimpleNamespace(redis="key")], keep=3)}),
        outputs={"o": SimpleNamespace(event_time=event_time, window_seconds=None)},
    )
    parts: dict[str, Any] = dict.fromkeys(("settings", "layout", "lineage", "claim", "gate", "caps"))
    context = DriverContext(
        **parts,
        frozen=frozen,  # type: ignore[arg-type]
        generation=1,
        epoch=2,
        results=Results(),  # type: ignore[arg-type]
        waiting=lambda _: None,
    )
    context.publish("o", [], 7, 1.5)
    (options,) = published
    assert (options["by_event_time"], options["window_seconds"]) == (by_event_time, None)
    assert (options["rows"], options["batch_id"], options["epoch"], options["keep"]) == ([], 7, 2, 3)
