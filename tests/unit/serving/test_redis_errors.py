"""Replies of Redis as its client reads them, and what the store makes of them."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from redis import Redis
from redis._parsers.base import BaseParser
from redis.exceptions import ReadOnlyError, RedisError

from headgate.errors import ServiceError, StoreUnavailable
from serving.redis_errors import passes
from serving.results import ResultStore

PASSING = [
    "READONLY You can't write against a read only replica. script: ab12, on @user_script:103.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN The cluster is down",
    "NOREPLICAS Not enough good replicas to write.",
    "ERR Error running script (call to f_ab): @user_script:12: -MISCONF Redis is configured to save",
    "ERR max number of clients reached",
]
LASTING = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "ERR unknown command 'XADD', with args beginning with: 'OOM'",
    "ERR Error running script: user_script:3: attempt to call a nil value",
]


def reply(text: str) -> RedisError:
    return BaseParser.parse_error(text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("text", PASSING)
def test_what_passes_is_waited_for(text):
    assert passes(reply(text))


@pytest.mark.parametrize("text", LASTING)
def test_what_does_not_pass_is_not_waited_for(text):
    assert not passes(reply(text))


def test_the_rows_of_a_command_are_not_taken_for_its_error():
    brought = "Command # 1 (RPUSH staged : -OOM is what the record says) of pipeline caused error: "
    assert not passes(RedisError(brought + "WRONGTYPE Operation against a key"))
    assert passes(RedisError(brought + "MISCONF Redis is configured to save"))


def store_that_answers(error: RedisError) -> tuple[ResultStore, Any]:
    client = Mock(spec=Redis)
    client.connection_pool = Mock(connection_kwargs={"host": "redis", "port": 6379})
    client.ping.side_effect = error
    return ResultStore(client, "test"), client.connection_pool


def test_the_store_says_unavailable_so_that_a_batch_waits():
    for text in PASSING:
        with pytest.raises(StoreUnavailable, match="Redis at redis:6379"):
            store_that_answers(reply(text))[0].ping()


def test_the_store_says_what_the_server_answered_where_waiting_cannot_help():
    for text in LASTING:
        with pytest.raises(ServiceError):
            store_that_answers(reply(text))[0].ping()


def test_after_a_failover_the_name_is_looked_up_again():
    store, pool = store_that_answers(ReadOnlyError("You can't write against a read only replica."))
    with pytest.raises(StoreUnavailable):
        store.ping()
    pool.disconnect.assert_called_once_with(inuse_connections=False)
