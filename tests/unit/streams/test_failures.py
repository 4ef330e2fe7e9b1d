from __future__ import annotations

import signal

import pytest

from headgate.streams.failures import classify, diagnose, diagnose_exit
from headgate.streams.model import FailureClass

DEPENDENCY = FailureClass.DEPENDENCY
TRANSIENT = FailureClass.TRANSIENT
DETERMINISTIC = FailureClass.DETERMINISTIC
DATA_LOSS = FailureClass.DATA_LOSS
CHECKPOINT = FailureClass.CHECKPOINT
FENCED = FailureClass.FENCED
UNKNOWN = FailureClass.UNKNOWN

WRAPPED = (
    "[STREAM_FAILED] Query [id = 6c1f, runId = 0d1e] terminated with exception: "
    "[FOREACH_BATCH_USER_FUNCTION_ERROR] An error occurred in the user provided function in foreach batch "
    "sink. Reason: {} SQLSTATE: 39000 SQLSTATE: XXKST"
)

# Texts as Spark 4.2, kafka-clients 3.9, delta 4.4, redis-py and the kernel write them.
CORPUS: list[tuple[FailureClass, list[str], str]] = [
    (
        FENCED,
        ["STREAM_FAILED", "CONCURRENT_STREAM_LOG_UPDATE"],
        "[CONCURRENT_STREAM_LOG_UPDATE] Concurrent update to the log. Multiple streaming jobs detected "
        "for 7. Please make sure only one streaming job runs on a specific checkpoint location at a time. "
        "SQLSTATE: 40000",
    ),
    (
        FENCED,
        ["CONCURRENT_QUERY"],
        "Another instance of this query was just started.",
    ),
    (
        FENCED,
        [],
        "java.lang.IllegalStateException: There are multiple streaming queries are concurrently using path "
        "[file:/var/checkpoints/a/offsets]",
    ),
    (
        FENCED,
        ["FOREACH_BATCH_USER_FUNCTION_ERROR"],
        WRAPPED.format(
            "[DELTA_CONCURRENT_TRANSACTION] ConcurrentTransactionException: This error occurs when multiple "
            "streaming queries are using the same checkpoint to write into this table."
        ),
    ),
    (
        FENCED,
        [],
        "org.apache.kafka.common.errors.ProducerFencedException: There is a newer producer with the same "
        "transactionalId which fences the current one.",
    ),
    (
        DATA_LOSS,
        ["KAFKA_DATA_LOSS.START_OFFSET_RESET"],
        "[KAFKA_DATA_LOSS.START_OFFSET_RESET] Some data may have been lost because they are not available in "
        "Kafka any more; Reason: Starting offset for realtime_data-0 was 400 but consumer reset to 0. "
        "SQLSTATE: 22000",
    ),
    (DATA_LOSS, ["KAFKA_DATA_LOSS.PARTITIONS_DELETED"], "Partitions [logs-2] have been deleted."),
    (
        DATA_LOSS,
        ["KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED"],
        "Partitions specified for Kafka start offsets don't match what are assigned.",
    ),
    (
        DATA_LOSS,
        ["STREAM_FAILED"],
        "java.lang.IllegalStateException: Cannot fetch offset 356071232 (GroupId: spark-kafka-source-5f44, "
        "TopicPartition: readings-45).",
    ),
    (
        DATA_LOSS,
        [],
        "org.apache.kafka.common.errors.UnknownTopicOrPartitionException: This server does not host this "
        "topic-partition.",
    ),
    (
        CHECKPOINT,
        ["STREAMING_CHECKPOINT_MISSING_METADATA_FILE"],
        "Checkpoint location x is in an inconsistent state: the metadata file is missing but offset and/or "
        "commit logs contain data. SQLSTATE: 42K03",
    ),
    (
        CHECKPOINT,
        ["STREAMING_STATEFUL_OPERATOR_MISSING_STATE_DIRECTORY"],
        "Cannot restart streaming query with stateful operators because the state directory is empty or "
        "missing. SQLSTATE: 42K03",
    ),
    (
        CHECKPOINT,
        ["STREAM_FAILED", "CANNOT_LOAD_STATE_STORE.CANNOT_READ_DELTA_FILE_NOT_EXISTS"],
        "Error reading delta file /c/state/0/0/3.delta of HDFSStateStoreProvider: file does not exist.",
    ),
    (CHECKPOINT, ["CANNOT_LOAD_STATE_STORE.UNCATEGORIZED"], "An error occurred during loading state."),
    (
        CHECKPOINT,
        [],
        "[CHECKPOINT_FILE_CHECKSUM_VERIFICATION_FAILED] Checksum verification failed, the file may be "
        "corrupted. SQLSTATE: XX000",
    ),
    (CHECKPOINT, ["STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY"], "The checkpoint location must be empty."),
    (
        CHECKPOINT,
        ["STREAM_FAILED"],
        "java.lang.IllegalStateException: Incomplete log file in file:/var/checkpoints/a/offsets/12",
    ),
    (CHECKPOINT, [], "java.lang.IllegalStateException: batch 4 doesn't exist"),
    (
        CHECKPOINT,
        [],
        "org.apache.hadoop.fs.ChecksumException: Checksum error: file:/c/commits/9 at 0 exp: 1 got: 2",
    ),
    (
        CHECKPOINT,
        ["StreamingQueryException"],
        "Checksum error: file:/var/checkpoints/a/offsets/8 at 0 exp: 936307785 got: -1965576372\n"
        "=== Streaming Query ===\nCurrent State: INITIALIZING",
    ),
    (
        CHECKPOINT,
        ["StreamingQueryException"],
        "Failed to read log file file:/var/checkpoints/a/commits/8. Incomplete log file in the offset commit "
        "log\n=== Streaming Query ===",
    ),
    (
        CHECKPOINT,
        ["StreamingQueryException"],
        WRAPPED.format(
            "Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times, most recent failure: Lost "
            "task 0.0 in stage 3.0 (TID 5) (10.0.0.2 executor driver): org.apache.spark.SparkException: "
            "[CANNOT_LOAD_STATE_STORE.UNCATEGORIZED] An error occurred during loading state. SQLSTATE: 58030 "
            "Caused by: java.io.IOException: Stream is corrupted"
        ),
    ),
    (
        DETERMINISTIC,
        ["UNRESOLVED_COLUMN.WITH_SUGGESTION"],
        "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column, variable, or function parameter with name `valeu` "
        "cannot be resolved. SQLSTATE: 42703",
    ),
    (
        DETERMINISTIC,
        ["TABLE_OR_VIEW_NOT_FOUND"],
        "The table or view `r` cannot be found. SQLSTATE: 42P01",
    ),
    (
        DETERMINISTIC,
        ["STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE"],
        "Provided key schema does not match existing state key schema. SQLSTATE: XXKST",
    ),
    (
        DETERMINISTIC,
        ["STATE_STORE_COMMIT_VALIDATION_FAILED"],
        "State store commit validation failed for batch 3. SQLSTATE: XXKST",
    ),
    (
        DETERMINISTIC,
        ["STREAMING_QUERY_EVOLUTION_ERROR.DUPLICATE_SOURCE_NAMES"],
        "Each streaming source in a query must have a unique name. SQLSTATE: 42000",
    ),
    (
        DETERMINISTIC,
        [],
        "org.apache.kafka.common.errors.TopicAuthorizationException: Not authorized to access topics: [logs]",
    ),
    (
        DETERMINISTIC,
        [],
        "org.apache.kafka.common.errors.SaslAuthenticationException: Authentication failed: Invalid username "
        "or password",
    ),
    (DETERMINISTIC, [], "redis.exceptions.AuthenticationError: WRONGPASS invalid username-password pair"),
    (DETERMINISTIC, ["JAVA_GATEWAY_EXITED"], "Java gateway process exited before sending its port number."),
    (
        DETERMINISTIC,
        ["CAST_INVALID_INPUT"],
        'The value \'Connection refused\' of the type "STRING" cannot be cast to "DOUBLE". SQLSTATE: 22018',
    ),
    (
        DETERMINISTIC,
        ["FOREACH_BATCH_USER_FUNCTION_ERROR"],
        WRAPPED.format("[DELTA_FAILED_TO_MERGE_FIELDS] Failed to merge fields 'a' and 'a'. SQLSTATE: 22005"),
    ),
    (
        DETERMINISTIC,
        [],
        "java.nio.file.AccessDeniedException: /srv/checkpoints/a/offsets/.1.tmp",
    ),
    (
        DEPENDENCY,
        ["STREAM_FAILED"],
        "org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment. Call: "
        "describeTopics",
    ),
    (
        DEPENDENCY,
        ["STREAM_FAILED"],
        "Timeout of 60000ms expired before the position for partition logs-0 could be determined",
    ),
    (
        DEPENDENCY,
        ["FOREACH_BATCH_USER_FUNCTION_ERROR"],
        WRAPPED.format(
            "redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1:6379. Connection refused."
        ),
    ),
    (
        DEPENDENCY,
        ["STREAM_FAILED"],
        "org.apache.kafka.common.KafkaException: Failed to construct kafka consumer\nCaused by: "
        "org.apache.kafka.common.config.ConfigException: No resolvable bootstrap urls given in "
        "bootstrap.servers",
    ),
    (DEPENDENCY, ["CANNOT_WRITE_STATE_STORE.CANNOT_COMMIT"], "java.io.IOException: No space left on device"),
    (DEPENDENCY, ["redis.exceptions.TimeoutError"], "Timeout reading from socket"),
    (DEPENDENCY, [], "redis.exceptions.BusyLoadingError: Redis is loading the dataset in memory"),
    (DEPENDENCY, [], "java.net.UnknownHostException: minio.internal"),
    (
        DEPENDENCY,
        ["OSError"],
        "Generic S3 error: Error performing PUT https://store/lake/t after 10 retries - HTTP error",
    ),
    (
        DEPENDENCY,
        ["STREAM_FAILED", "PythonException"],
        "headgate.errors.TablesUnavailable: s3://lake/t/part-1.parquet cannot be reached: Request "
        "precondition failure for path t/part-1.parquet",
    ),
    (
        DETERMINISTIC,
        ["STREAM_FAILED", "PythonException"],
        "headgate.tables.answers.StoreDenied: s3://lake/t/part-1.parquet: the store does not let us: The "
        "operation lacked valid authentication credentials for path t/part-1.parquet",
    ),
    (
        DEPENDENCY,
        ["PythonException"],
        "HTTP error: error sending request (http://127.0.0.1:9000/lake?list-type=2)",
    ),
    (
        DETERMINISTIC,
        ["FOREACH_BATCH_USER_FUNCTION_ERROR"],
        "java.lang.IllegalArgumentException: cannot use the record 'upstream: error sending request'",
    ),
    (TRANSIENT, ["CANNOT_LOAD_STATE_STORE.ROCKSDB_STORE_PROVIDER_OUT_OF_MEMORY"], "Could not load RocksDB."),
    (
        TRANSIENT,
        ["STREAM_FAILED"],
        "Job aborted due to stage failure: Task 0 in stage 8.0 failed 4 times, most recent failure: Lost "
        "task 0.3 in stage 8.0: ExecutorLostFailure (executor 1 exited caused by one of the running tasks)",
    ),
    (TRANSIENT, ["LOST_TOPIC_PARTITIONS_IN_END_OFFSET_WITH_TRIGGER_AVAILABLENOW"], "Some of partitions"),
    (TRANSIENT, [], "java.lang.OutOfMemoryError: Java heap space"),
    (
        TRANSIENT,
        [],
        'Traceback (most recent call last):\n  File "py4j/clientserver.py", line 503, in send_command\n'
        "ConnectionRefusedError: [Errno 111] Connection refused",
    ),
    (TRANSIENT, [], "py4j.protocol.Py4JNetworkError: Answer from Java side is empty"),
    (
        TRANSIENT,
        ["DELTA_CONCURRENT_APPEND"],
        "Files were added by a concurrent update.",
    ),
    (
        UNKNOWN,
        ["INTERNAL_ERROR"],
        "[INTERNAL_ERROR] The phase optimization failed. SQLSTATE: XX000",
    ),
    (UNKNOWN, ["FOREACH_BATCH_USER_FUNCTION_ERROR"], WRAPPED.format("something nobody has seen")),
    (UNKNOWN, [], ""),
]


@pytest.mark.parametrize(("expected", "conditions", "message"), CORPUS)
def test_each_text_of_the_corpus_has_its_class(
    expected: FailureClass, conditions: list[str], message: str
) -> None:
    assert classify(conditions, message) is expected, diagnose(conditions, message)


def test_a_condition_written_in_the_message_counts_like_a_given_one() -> None:
    message = "[KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE] Could not read records in offset [3, 9)"
    assert diagnose([], message).evidence == "KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE"


def test_what_must_never_be_restarted_wins_over_what_may_be() -> None:
    both = "Connection refused\nCaused by: [CONCURRENT_STREAM_LOG_UPDATE] Multiple streaming jobs"
    assert classify([], both) is FENCED


def test_a_name_that_only_begins_like_a_condition_is_not_that_condition() -> None:
    assert classify(["KAFKA_DATA_LOSSES"], "") is UNKNOWN


@pytest.mark.parametrize(
    ("returncode", "number", "expected"),
    [
        (None, None, TRANSIENT),
        (None, int(signal.SIGKILL), TRANSIENT),
        (None, int(signal.SIGSEGV), TRANSIENT),
        (None, 63, TRANSIENT),
        (0, None, UNKNOWN),
        (1, None, UNKNOWN),
        (10, None, UNKNOWN),
        (11, None, FENCED),
        (12, None, CHECKPOINT),
        (127, None, DETERMINISTIC),
    ],
)
def test_an_exit_without_a_reason_has_the_class_of_its_status(
    returncode: int | None, number: int | None, expected: FailureClass
) -> None:
    assert diagnose_exit(returncode, number).failure is expected
