"""The results in Redis: what the driver publishes, the quality check withholds, and serving reads.

    headgate:<env>:<pipeline>:<output>:meta     what was written last: epoch, batch, watermark, keep
    headgate:<env>:<pipeline>:<output>:hold     the last verdict, and whether it withholds
    headgate:<env>:<pipeline>:<output>:times    the kept event times, in order
    headgate:<env>:<pipeline>:<output>:at:<t>   the rows of one event time, row key to body
    headgate:<env>:<pipeline>:<output>:tail     a capped stream of rows, for `headgate tail`
    <the contract's key>                        the published document

Every change is one script (`results.lua`), so that a reader never sees half a batch, and compares
(epoch, batch id) before it touches anything. Each call may be repeated after a lost answer.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Self, cast

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError
from redis.retry import Retry

from headgate.errors import ServiceError, StoreUnavailable
from headgate.settings import Settings
from serving.batches import Batch, HoldChange, PublishOutcome, ResultRow, as_json, prepare
from serving.moments import iso
from serving.reading import Published, StreamEntries, TailRow, tail_row
from serving.redis_errors import TRANSIENT, passes

__all__ = ["PublishOutcome", "Published", "ResultRow", "ResultStore", "TailRow"]

TAIL_LENGTH = 2_000  # rows that `headgate tail` can still show after it starts
ROWS_IN_ONE_CALL = 5_000  # above this a batch is staged first: Redis bounds the arguments of a call


class ResultStore:
    """One Redis server (not a cluster: the script names keys as it goes). Safe to share by threads."""

    def __init__(self, client: Redis, env: str, *, clock: Callable[[], float] = time.time) -> None:
        self._redis = client
        self._env = env
        self._clock = clock
        code = resources.files("serving").joinpath("results.lua").read_text(encoding="utf-8")
        self._script = client.register_script(code)

    @classmethod
    def from_settings(cls, settings: Settings, *, timeout_seconds: float = 15.0) -> Self:
        password = settings.secret(settings.redis.password) if settings.redis.password else None
        client = Redis.from_url(
            settings.redis.url,
            password=password,
            decode_responses=True,
            socket_connect_timeout=min(timeout_seconds, 5.0),
            socket_timeout=timeout_seconds,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), 3),
            retry_on_error=list(TRANSIENT),
        )
        return cls(client, settings.env)

    def close(self) -> None:
        self._redis.close()

    def ping(self) -> None:
        """Raises StoreUnavailable when Redis does not answer."""
        with self._errors():
            self._redis.ping()

    # -- writing -------------------------------------------------------------------------------

    def publish(
        self,
        pipeline: str,
        output: str,
        *,
        epoch: int,
        batch_id: int,
        rows: Sequence[ResultRow],
        published_key: str,
        keep: int,
        watermark: float | None,
        by_event_time: bool,
        window_seconds: float | None,
    ) -> PublishOutcome:
        """Write one batch: history, published document and tail, in one step.

        A lower epoch is `fenced`, a lower batch of the same epoch `stale`, and neither changes
        anything; the same batch again rewrites the same. `watermark` is Unix seconds. An output that is
        not `by_event_time` is kept by batch, the last one with rows published. A batch without rows takes
        nothing away.
        """
        batch = prepare(rows, batch_id=batch_id, epoch=epoch, keep=keep, by_event_time=by_event_time)
        staged = self._key(pipeline, output, "staged:" + uuid.uuid4().hex)
        with self._errors():
            direct = batch.rows
            if len(batch.rows) > ROWS_IN_ONE_CALL:
                self._stage(staged, batch)
                direct = ()
            head = [
                *(epoch, batch_id, keep, batch.mode, _moment(watermark), as_json(window_seconds)),
                *(published_key, batch.newest_left_out, TAIL_LENGTH, len(direct)),
            ]
            flat = [part for row in direct for part in row]
            answer = self._run("publish", pipeline, output, [*head, *flat, *batch.tail], staged)
        return PublishOutcome(answer)

    def set_hold(
        self,
        pipeline: str,
        output: str,
        status: str,
        up_to_event_time_ms: int | None,
        at: float,
        *,
        severity: str = "critical",
    ) -> bool:
        """Take note of a verdict; False when a later one is already there.

        A failed critical one withholds event times later than what the last passed check had seen
        (nothing had passed: all of them). A passed one, or one that failed below critical, releases
        and sets that mark to `up_to_event_time_ms` (None: all that is here). A check that broke or
        found no data changes nothing but the verdict shown.
        """
        change = HoldChange.of(status, severity)
        up_to = "" if up_to_event_time_ms is None else up_to_event_time_ms
        with self._errors():
            answer = self._run("hold", pipeline, output, [status, change.value, up_to, repr(at)], "")
        return answer == "written"

    def forget(self, pipeline: str, output: str) -> None:
        """Remove all that is kept of an output, the published document included."""
        meta = self._key(pipeline, output, "meta")
        with self._errors():
            published = self._redis.hget(meta, "published_key")
            document = cast("str | None", self._redis.get(cast(str, published))) if published else None
            if document and document.startswith(_head(pipeline, output)):
                self._redis.delete(cast(str, published))
            times = cast("list[str]", self._redis.zrange(self._key(pipeline, output, "times"), 0, -1))
            names = [*("meta", "hold", "times", "tail"), *(f"at:{time}" for time in times)]
            self._redis.delete(*(self._key(pipeline, output, name) for name in names))

    # -- reading -------------------------------------------------------------------------------

    def latest(self, pipeline: str, output: str) -> Published:
        with self._errors():
            meta = self._hash(pipeline, output, "meta")
            published = meta.get("published_key")
            steps = self._redis.pipeline(transaction=True)
            steps.hgetall(self._key(pipeline, output, "hold"))
            if published:
                steps.get(published)
            hold, *document = steps.execute()
        text = document[0] if document else None
        if text and not text.startswith(_head(pipeline, output)):
            text = None  # another output's document under the same key; plan refuses such contracts
        return Published.of(text, meta, hold)

    def history(self, pipeline: str, output: str, limit: int) -> list[dict[str, Any]]:
        """The last `limit` event times that are not withheld, newest first, each with its rows."""
        times = self._key(pipeline, output, "times")
        with self._errors():
            kept = int(self._hash(pipeline, output, "meta").get("keep", 0))
            hold = self._hash(pipeline, output, "hold")
            held = hold.get("held") == "1"
            if held and "passed" not in hold:
                return []
            newest = hold["passed"] if held else "+inf"
            members = cast(
                "list[str]", self._redis.zrevrangebyscore(times, newest, "-inf", 0, min(limit, kept))
            )
            steps = self._redis.pipeline(transaction=True)
            for member in members:
                steps.hgetall(self._key(pipeline, output, f"at:{member}"))
            bodies = cast("list[dict[str, str]]", steps.execute())
        return [
            {
                "event_time": None if member.startswith("batch:") else member,
                "rows": [json.loads(rows[key]) for key in sorted(rows)],
            }
            for member, rows in zip(members, bodies, strict=True)
            if rows  # dropped between the two reads
        ]

    def oldest(self, pipeline: str, output: str) -> int | None:
        """The oldest event time that is kept, in milliseconds; 0 where rows are kept without one, None where
        nothing is."""
        with self._errors():
            found = self._redis.zrange(self._key(pipeline, output, "times"), 0, 0, withscores=True)
        return int(cast("list[tuple[str, float]]", found)[0][1]) if found else None

    def recent(self, pipeline: str, output: str, count: int) -> list[TailRow]:
        """The last rows of the live stream, oldest first."""
        with self._errors():
            entries = cast(
                StreamEntries, self._redis.xrevrange(self._key(pipeline, output, "tail"), count=count)
            )
        return [tail_row(entry) for entry in reversed(entries)]

    def rows_after(self, pipeline: str, output: str, position: str, *, block_seconds: float) -> list[TailRow]:
        """Rows that were published after a position, waiting for one; "0-0" is before all of them."""
        key = self._key(pipeline, output, "tail")
        with self._errors():
            answer = cast(
                "list[tuple[str, StreamEntries]]",
                self._redis.xread({key: position}, count=500, block=int(block_seconds * 1000)),
            )
        return [tail_row(entry) for _, entries in answer or [] for entry in entries]

    def follow(
        self, pipeline: str, output: str, *, last: int = 0, block_seconds: float = 1.0
    ) -> Iterator[TailRow | None]:
        """The last rows, then each new one as it is published; None whenever nothing came for a while.

        Raises StoreUnavailable when Redis is away at the start; later it is waited for.
        """
        rows = self.recent(pipeline, output, max(last, 1))
        position = rows[-1].position if rows else "0-0"
        yield from rows[len(rows) - last :] if last < len(rows) else rows
        while True:
            try:
                rows = self.rows_after(pipeline, output, position, block_seconds=block_seconds)
            except StoreUnavailable:
                time.sleep(block_seconds)
                rows = []
            if not rows:
                yield None
                continue
            position = rows[-1].position
            yield from rows

    # -- inside --------------------------------------------------------------------------------

    def _key(self, pipeline: str, output: str, name: str) -> str:
        return f"headgate:{self._env}:{pipeline}:{output}:{name}"

    def _hash(self, pipeline: str, output: str, name: str) -> dict[str, str]:
        return cast("dict[str, str]", self._redis.hgetall(self._key(pipeline, output, name)))

    def _stage(self, staged: str, batch: Batch) -> None:
        """Bring a big batch to Redis in pieces; the script then takes all of it at once."""
        for start in range(0, len(batch.rows), ROWS_IN_ONE_CALL):
            steps = self._redis.pipeline(transaction=True)
            part = batch.rows[start : start + ROWS_IN_ONE_CALL]
            steps.rpush(staged, *(value for row in part for value in row))
            steps.expire(staged, 600)  # if this process dies here
            steps.execute()

    def _run(self, verb: str, pipeline: str, output: str, values: Sequence[object], staged: str) -> str:
        staged = staged or self._key(pipeline, output, "staged")
        keys = [self._key(pipeline, output, name) for name in ("meta", "hold", "times", "tail")]
        prefix = self._key(pipeline, output, "at:")
        now = _moment(self._clock())
        arguments = [verb, prefix, _head(pipeline, output), now, *values]
        return cast(str, self._script(keys=[*keys, staged], args=cast("list[Any]", arguments)))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        place = self._redis.connection_pool.connection_kwargs
        where = f"{place.get('host', place.get('path', '?'))}:{place.get('port', '')}".rstrip(":")
        try:
            yield
        except AuthenticationError as error:
            raise ServiceError(
                f"Redis at {where} refused the password", help="check redis.password in the settings"
            ) from error
        except RedisError as error:
            if not passes(error):
                raise ServiceError(f"Redis at {where} answered with an error: {error}") from error
            if isinstance(error, ReadOnlyError):
                # A primary that became a replica keeps its connections; the name may lead to another now.
                self._redis.connection_pool.disconnect(inuse_connections=False)
            what = "does not answer" if isinstance(error, TRANSIENT) else "cannot serve now"
            raise StoreUnavailable(f"Redis at {where} {what}: {error}", help="headgate doctor") from error


def _head(pipeline: str, output: str) -> str:
    return f'{{"pipeline":"{pipeline}","output":"{output}"'


def _moment(seconds: float | None) -> str:
    return "null" if seconds is None else f'"{iso(round(seconds * 1000))}"'
