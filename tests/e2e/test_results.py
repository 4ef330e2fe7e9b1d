from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from headgate.errors import ServiceError, StoreUnavailable
from headgate.settings import RedisSettings, RootsSettings, Settings
from serving.moments import iso
from serving.results import PublishOutcome, ResultRow, ResultStore

pytestmark = pytest.mark.e2e

NOON = 1_696_161_600_000  # 2023-10-01 12:00:00 UTC
KEY = "latest_test"


@pytest.fixture
def client(redis_server: Any) -> Iterator[Redis]:
    client = Redis(port=redis_server.port, db=3, decode_responses=True)  # a database of its own
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def store(client: Redis) -> ResultStore:
    return ResultStore(client, "test", clock=lambda: 1_700_000_000.0)


def row(minute: int | None, key: str, value: object) -> ResultRow:
    at = None if minute is None else NOON + minute * 60_000
    return ResultRow(at, key, {"key": key, "value": value})


def put(store: ResultStore, batch_id: int, *rows: ResultRow, **changes: object) -> PublishOutcome:
    options: dict[str, object] = {
        "epoch": 1,
        "published_key": KEY,
        "keep": 3,
        "watermark": None,
        "by_event_time": True,
        "window_seconds": 60.0,
    }
    return store.publish("p", "o", batch_id=batch_id, rows=rows, **{**options, **changes})  # type: ignore[arg-type]


def shown(client: Redis) -> tuple[str | None, list[object]] | None:
    text = client.get(KEY)
    if text is None:
        return None
    document = json.loads(str(text))
    return document["event_time"], [(item["key"], item["value"]) for item in document["rows"]]


def test_the_published_document_is_all_rows_of_the_greatest_event_time(
    store: ResultStore, client: Redis
) -> None:
    put(store, 0, row(1, "b", 2), row(0, "a", 1), row(1, "a", 3), watermark=1_696_161_000.0)
    assert json.loads(str(client.get(KEY))) == {
        "pipeline": "p",
        "output": "o",
        "event_time": "2023-10-01T12:01:00Z",
        "rows": [{"key": "a", "value": 3}, {"key": "b", "value": 2}],
        "batch_id": 0,
        "epoch": 1,
        "watermark": "2023-10-01T11:50:00Z",
        "window_seconds": 60.0,
        "published_at": "2023-11-14T22:13:20Z",
    }


def test_a_later_batch_updates_rows_of_the_published_event_time(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(1, "a", 1), row(1, "b", 1))
    put(store, 1, row(1, "b", 2), row(0, "a", 9))
    assert shown(client) == ("2023-10-01T12:01:00Z", [("a", 1), ("b", 2)])


def test_numbers_reach_the_document_unchanged(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(0, "a", [2**53 + 1, 0.1, 1e300, {}, [], None, "\u00e9\u2028\x00", float("nan")]))
    body = json.loads(str(client.get(KEY)))["rows"][0]
    assert body["value"] == [2**53 + 1, 0.1, 1e300, {}, [], None, "\u00e9\u2028\x00", "NaN"]


def test_history_keeps_the_last_event_times_only(store: ResultStore, client: Redis) -> None:
    for minute in range(6):
        put(store, minute, row(minute, "a", minute))
    assert [item["event_time"] for item in store.history("p", "o", 10)] == [
        iso(NOON + minute * 60_000) for minute in (5, 4, 3)
    ]
    assert len(client.keys("headgate:test:p:o:at:*")) == 3


def test_a_dropped_event_time_does_not_come_back_in_part(store: ResultStore, client: Redis) -> None:
    for minute in range(4):
        put(store, minute, row(minute, "a", minute), row(minute, "b", minute))
    put(store, 4, row(0, "a", 99), keep=10)
    assert [item["event_time"] for item in store.history("p", "o", 10)] == [
        iso(NOON + minute * 60_000) for minute in (3, 2, 1)
    ]


def test_a_lower_epoch_is_fenced_and_changes_nothing(store: ResultStore, client: Redis) -> None:
    put(store, 5, row(0, "a", 1), epoch=2)
    before = _dump(client)
    assert put(store, 9, row(1, "a", 2), epoch=1) is PublishOutcome.FENCED
    assert _dump(client) == before


def test_a_lower_batch_of_the_same_epoch_is_stale_and_changes_nothing(
    store: ResultStore, client: Redis
) -> None:
    put(store, 5, row(0, "a", 1))
    before = _dump(client)
    assert put(store, 4, row(1, "a", 2)) is PublishOutcome.STALE
    assert _dump(client) == before


def test_the_same_batch_again_leaves_the_same_state(store: ResultStore, client: Redis) -> None:
    put(store, 5, row(0, "a", 1), row(1, "b", 1))
    before = _dump(client)
    assert put(store, 5, row(0, "a", 1), row(1, "b", 1)) is PublishOutcome.WRITTEN
    assert _dump(client) == before


def test_a_new_epoch_may_begin_with_any_batch(store: ResultStore, client: Redis) -> None:
    put(store, 5, row(0, "a", 1))
    assert put(store, 0, row(0, "a", 2), epoch=2) is PublishOutcome.WRITTEN
    assert shown(client) == (iso(NOON), [("a", 2)])


def test_rows_without_event_time_are_kept_by_batch_and_the_last_one_is_published(
    store: ResultStore, client: Redis
) -> None:
    for batch_id in range(5):
        put(
            store,
            batch_id,
            row(None, "a", batch_id),
            row(None, "b", batch_id),
            by_event_time=False,
            window_seconds=None,
        )
    put(store, 4, row(None, "a", "again"), epoch=2, by_event_time=False, window_seconds=None)
    assert shown(client) == (None, [("a", "again")])
    assert [item["rows"][0]["value"] for item in store.history("p", "o", 10)] == ["again", 3, 2]


def test_batches_of_a_new_lineage_follow_those_of_the_old_one(store: ResultStore, client: Redis) -> None:
    for batch_id in range(3):
        put(store, batch_id, row(None, "a", batch_id), by_event_time=False, window_seconds=None)
    put(store, 0, row(None, "a", "new"), epoch=2, by_event_time=False, window_seconds=None)
    assert [item["rows"][0]["value"] for item in store.history("p", "o", 10)] == ["new", 2, 1]
    assert shown(client) == (None, [("a", "new")])


def test_a_batch_without_rows_moves_the_watermark_and_keeps_the_rows(
    store: ResultStore, client: Redis
) -> None:
    put(store, 0, row(0, "a", 1))
    put(store, 1, watermark=1_696_161_660.0)
    document = store.latest("p", "o").document
    assert document is not None
    assert document["watermark"] == "2023-10-01T12:01:00Z"
    assert document["rows"] == [{"key": "a", "value": 1}]


@pytest.mark.parametrize("rows", [[], [row(None, "x", 9)]], ids=["no rows", "no event time"])
@pytest.mark.parametrize("window_seconds", [None, 60.0])
def test_a_batch_with_nothing_to_show_takes_nothing_away(
    store: ResultStore, client: Redis, rows: list[ResultRow], window_seconds: float | None
) -> None:
    put(store, 0, row(0, "a", 1), row(1, "a", 2), window_seconds=window_seconds)
    store.set_hold("p", "o", "passed", NOON, 1.0)
    put(store, 1, *rows, window_seconds=window_seconds, watermark=1_696_161_660.0)
    assert shown(client) == (iso(NOON + 60_000), [("a", 2)])
    assert len(store.history("p", "o", 10)) == 2
    store.set_hold("p", "o", "failed", None, 2.0)
    assert shown(client) == (iso(NOON), [("a", 1)]), "what had passed is known as before"


@pytest.mark.parametrize("before", [True, False])
def test_an_empty_batch_of_another_kind_of_output_leaves_what_is_served_until_there_are_rows(
    store: ResultStore, client: Redis, before: bool
) -> None:
    first = row(0, "a", 1) if before else row(None, "a", 1)
    put(store, 0, first, by_event_time=before, window_seconds=None)
    served = shown(client)
    put(store, 1, by_event_time=not before, window_seconds=None)
    assert shown(client) == served == (iso(NOON) if before else None, [("a", 1)])
    second = row(None, "a", 2) if before else row(1, "a", 2)
    put(store, 2, second, by_event_time=not before, window_seconds=None)
    assert shown(client) == (None if before else iso(NOON + 60_000), [("a", 2)])
    assert len(store.history("p", "o", 10)) == 1


def test_a_row_without_event_time_among_others_is_streamed_and_not_published(
    store: ResultStore, client: Redis
) -> None:
    put(store, 0, row(0, "a", 1), row(None, "b", 2))
    assert shown(client) == (iso(NOON), [("a", 1)])
    assert [item.body["key"] for item in _recent(store, 10)] == ["b", "a"]


def test_a_failed_critical_verdict_shows_what_had_passed_and_a_passed_one_releases(
    store: ResultStore, client: Redis
) -> None:
    put(store, 0, row(0, "a", 0), row(1, "a", 1))
    store.set_hold("p", "o", "passed", NOON + 60_000, 100.0)
    put(store, 1, row(2, "a", 2))
    assert shown(client) == (iso(NOON + 120_000), [("a", 2)])
    store.set_hold("p", "o", "failed", NOON + 120_000, 200.0)
    assert shown(client) == (iso(NOON + 60_000), [("a", 1)])
    assert [item["event_time"] for item in store.history("p", "o", 10)] == [iso(NOON + 60_000), iso(NOON)]
    assert (store.latest("p", "o").verdict, store.latest("p", "o").held) == ("failed", True)
    for minute in range(3, 20):
        put(store, minute, row(minute, "a", minute))
    assert shown(client) == (iso(NOON + 60_000), [("a", 1)]), "what had passed outlives the history"
    store.set_hold("p", "o", "errored", None, 300.0)
    assert shown(client) == (iso(NOON + 60_000), [("a", 1)]), "a check that broke releases nothing"
    store.set_hold("p", "o", "passed", NOON + 19 * 60_000, 400.0)
    assert shown(client) == (iso(NOON + 19 * 60_000), [("a", 19)])
    assert len(client.keys("headgate:test:p:o:at:*")) == 3


def test_nothing_is_served_while_nothing_has_ever_passed(store: ResultStore, client: Redis) -> None:
    store.set_hold("p", "o", "failed", None, 1.0)
    put(store, 0, row(0, "a", 0))
    assert client.get(KEY) is None
    assert store.latest("p", "o").document is None
    assert store.history("p", "o", 10) == []
    store.set_hold("p", "o", "passed", NOON, 2.0)
    assert shown(client) == (iso(NOON), [("a", 0)])


def test_a_failure_below_critical_withholds_nothing(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(0, "a", 0))
    store.set_hold("p", "o", "failed", NOON, 1.0, severity="warning")
    assert shown(client) == (iso(NOON), [("a", 0)])
    assert store.latest("p", "o").verdict == "failed"


def test_an_older_verdict_does_not_replace_a_newer_one(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(0, "a", 0))
    store.set_hold("p", "o", "passed", NOON, 10.0)
    assert store.set_hold("p", "o", "failed", NOON, 5.0) is False
    assert store.latest("p", "o").held is False


def test_outputs_without_event_time_are_withheld_by_batch(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(None, "a", 0), by_event_time=False, window_seconds=None)
    store.set_hold("p", "o", "passed", None, 1.0)
    put(store, 1, row(None, "a", 1), by_event_time=False, window_seconds=None)
    store.set_hold("p", "o", "failed", None, 2.0)
    assert shown(client) == (None, [("a", 0)])
    store.set_hold("p", "o", "passed", None, 3.0)
    assert shown(client) == (None, [("a", 1)])


def test_a_big_batch_arrives_whole_and_leaves_nothing_staged(store: ResultStore, client: Redis) -> None:
    put(store, 0, *(row(0, f"k{number:06d}", number) for number in range(20_001)))
    document = store.latest("p", "o").document
    assert document is not None
    assert [item["value"] for item in document["rows"]] == list(range(20_001))
    assert client.keys("*staged*") == []
    rows = list(_recent(store, 1000))
    assert (len(rows), rows[0].omitted) == (500, 19_501)


def test_a_fenced_big_batch_leaves_nothing_behind(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(0, "a", 1), epoch=3)
    rows = [row(0, f"k{number}", number) for number in range(5_001)]
    assert put(store, 1, *rows, epoch=2) is PublishOutcome.FENCED
    assert client.keys("*staged*") == []


def test_a_renamed_key_takes_the_old_document_away_but_never_anothers(
    store: ResultStore, client: Redis
) -> None:
    put(store, 0, row(0, "a", 1))
    put(store, 1, row(0, "a", 2), published_key="other")
    assert (client.get(KEY), client.exists("other")) == (None, 1)
    client.set("other", "somebody else's")
    put(store, 2, row(0, "a", 3), published_key=KEY)
    assert client.get("other") == "somebody else's"


def test_an_output_that_gains_event_times_starts_its_history_anew(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(None, "a", 0), by_event_time=False, window_seconds=None)
    put(store, 1, row(0, "a", 1))
    assert [item["event_time"] for item in store.history("p", "o", 10)] == [iso(NOON)]
    assert shown(client) == (iso(NOON), [("a", 1)])


def test_forget_removes_all_of_one_output_and_nothing_else(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(0, "a", 1))
    client.set("other", "1")
    store.set_hold("p", "o", "passed", NOON, 1.0)
    store.forget("p", "o")
    assert client.keys("*") == ["other"]


def test_the_tail_shows_the_last_rows_and_then_each_new_one_once(store: ResultStore, client: Redis) -> None:
    put(store, 0, row(0, "a", 0), row(0, "b", 0))
    rows = store.follow("p", "o", last=1, block_seconds=0.05)
    first = next(rows)
    assert first is not None
    assert first.body == {"key": "b", "value": 0}
    assert next(rows) is None
    put(store, 1, row(1, "a", 1))
    put(store, 1, row(1, "a", 1))  # the answer of the first was lost
    second = next(rows)
    assert second is not None
    assert (second.event_time, second.batch_id, second.epoch) == (iso(NOON + 60_000), 1, 1)
    assert next(rows) is None


def test_a_stopped_redis_is_unavailable_and_says_where(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(
        home=tmp_path,
        roots=RootsSettings(state=str(tmp_path)),
        redis=RedisSettings(url=f"redis://127.0.0.1:{port}/0"),
    )
    store = ResultStore.from_settings(settings)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port} does not answer"):
        store.ping()
    store.close()


def test_an_error_of_redis_is_told_as_such(store: ResultStore, client: Redis) -> None:
    client.set("headgate:test:p:o:times", "not a sorted set")
    with pytest.raises(ServiceError, match="WRONGTYPE"):
        put(store, 0, row(0, "a", 1))


# -- the publish semantics against a model that is nothing but plain Python ---------------------


class Model:
    """Event times to rows, kept as the rules say it, without any idea of Redis."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.rows: dict[int, dict[str, object]] = {}
        self.fence = (0, -1)
        self.horizon = -1
        self.passed: int | None = None
        self.held = False

    def publish(self, epoch: int, batch_id: int, rows: list[tuple[int, str, int]]) -> str:
        if epoch < self.fence[0]:
            return "fenced"
        if epoch == self.fence[0] and batch_id < self.fence[1]:
            return "stale"
        self.fence = (epoch, batch_id)
        considered = sorted({at for at, _, _ in rows})[-self.keep :]
        for at, key, value in rows:
            if at in considered and (at > self.horizon or at in self.rows):
                self.rows.setdefault(at, {})[key] = value
        left_out = [at for at, _, _ in rows if at not in considered]
        self.horizon = max([self.horizon, *left_out])
        self.trim()
        return "written"

    def trim(self) -> None:
        pinned = self.newest(self.passed) if self.passed is not None else None
        for at in sorted(self.rows)[: -self.keep]:
            if at != pinned:
                self.horizon = max(self.horizon, at)
                del self.rows[at]

    def newest(self, limit: int | None) -> int | None:
        return max((at for at in self.rows if limit is None or at <= limit), default=None)

    def verdict(self, passed: bool) -> None:
        self.held = not passed
        if passed:
            self.passed = self.newest(None) if self.rows else self.passed
            self.trim()

    def shown(self) -> tuple[str, list[object]] | None:
        if self.held and self.passed is None:
            return None
        at = self.newest(self.passed if self.held else None)
        if at is None:
            return None
        return iso(NOON + at * 60_000), sorted(self.rows[at].items())


one_row = st.tuples(st.integers(0, 12), st.sampled_from("abc"), st.integers(0, 99))
steps = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 3), st.integers(0, 6), st.lists(one_row, max_size=8)),
        st.booleans(),
    ),
    max_size=25,
)


@given(steps=steps, keep=st.integers(1, 4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_batches_replays_and_verdicts_ends_as_the_model_says(
    store: ResultStore, client: Redis, steps: list[object], keep: int
) -> None:
    client.flushdb()
    model = Model(keep)
    for moment, step in enumerate(steps):
        if isinstance(step, bool):
            model.verdict(step)
            store.set_hold("p", "o", "passed" if step else "failed", None, float(moment))
        else:
            epoch, batch_id, rows = step  # type: ignore[misc]
            # A batch holds each row once: two rows of one key are one group's two results, never seen.
            unique = list({(at, key): (at, key, value) for at, key, value in rows}.values())
            outcome = put(store, batch_id, *(row(*item) for item in unique), epoch=epoch, keep=keep)
            assert outcome == model.publish(epoch, batch_id, unique)
        assert shown(client) == model.shown()
    kept = [iso(NOON + at * 60_000) for at in sorted(model.rows, reverse=True)]
    assert sorted(client.zrange("headgate:test:p:o:times", 0, -1), reverse=True) == kept


def _recent(store: ResultStore, count: int) -> Iterator[object]:
    for item in store.follow("p", "o", last=count, block_seconds=0.05):
        if item is None:
            return
        yield item


def _dump(client: Redis) -> dict[str, object]:
    return {str(key): client.dump(key) for key in sorted(client.keys("*"))}
