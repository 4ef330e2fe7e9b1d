"""The table of what is known about failures: conditions and phrases, and the class each one means.

Read from the top, the first rule that matches decides. A condition covers its sub-conditions and `*`
stands for any part of a name; a phrase is a regular expression, upper and lower case alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from headgate.streams.model import FailureClass

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    failure: FailureClass
    name: str
    conditions: re.Pattern[str] | None
    phrases: re.Pattern[str] | None


def _rule(failure: FailureClass, name: str, conditions: str = "", phrases: str = "") -> Rule:
    """Conditions and phrases are given one to a line."""
    names = [re.escape(line).replace(r"\*", "[A-Z0-9_]*") for line in _lines(conditions)]
    texts = _lines(phrases)
    return Rule(
        failure,
        name,
        re.compile(rf"(?:{'|'.join(names)})(?:\..*)?") if names else None,
        re.compile("|".join(texts), re.IGNORECASE) if texts else None,
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


RULES = (
    _rule(
        FailureClass.FENCED,
        "another driver holds the checkpoint or the transaction",
        """CONCURRENT_STREAM_LOG_UPDATE
        CONCURRENT_QUERY
        DELTA_CONCURRENT_TRANSACTION""",
        r"""multiple streaming (?:queries|jobs) (?:are concurrently )?(?:using|detected)
        concurrent update to the (?:commit )?log
        ConcurrentTransactionException
        another instance of this query was just started
        ProducerFencedException
        InvalidProducerEpochException
        \bfenced by epoch \d""",
    ),
    _rule(
        FailureClass.DATA_LOSS,
        "records between the committed offsets and the topic are gone",
        """KAFKA_DATA_LOSS
        KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED
        TOPIC_RECREATED
        RESOLVED_START_OFFSET_GREATER_THAN_END_OFFSET""",
        r"""some data may have been lost because they are not available in Kafka any more
        OffsetOutOfRangeException
        fetch position \S+ is out of range for partition
        UnknownTopicOrPartition(?:Exception|Error)
        the topic was deleted and created again
        cannot fetch offset \d+ .*TopicPartition""",
    ),
    _rule(
        FailureClass.TRANSIENT,
        "the state store ran out of memory or was still held by an old task",
        """CANNOT_LOAD_STATE_STORE.ROCKSDB_STORE_PROVIDER_OUT_OF_MEMORY
        CANNOT_LOAD_STATE_STORE.HDFS_STORE_PROVIDER_OUT_OF_MEMORY
        CANNOT_LOAD_STATE_STORE.UNRELEASED_THREAD_ERROR
        STATE_STORE_OPERATION_OUT_OF_ORDER
        STATE_STORE_INVALID_STAMP
        *_WITH_TRIGGER_AVAILABLENOW
        *_THAN_PREFETCHED
        MISMATCHED_TOPIC_PARTITIONS_BETWEEN_END_OFFSET_AND_PREFETCHED""",
    ),
    _rule(
        FailureClass.DETERMINISTIC,
        "the state in the checkpoint does not fit the query",
        """STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE
        STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE
        STATE_STORE_COLUMN_FAMILY_SCHEMA_INCOMPATIBLE
        STATE_STORE_INVALID_*
        STATE_STORE_VALUE_SCHEMA_EVOLUTION_THRESHOLD_EXCEEDED
        STATE_STORE_STATE_SCHEMA_FILES_THRESHOLD_EXCEEDED
        STATE_STORE_COMMIT_VALIDATION_FAILED
        STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA
        STREAMING_QUERY_EVOLUTION_ERROR""",
        r"""there are \[\d+\] sources in the checkpoint offsets and now there are""",
    ),
    _rule(
        FailureClass.CHECKPOINT,
        "a file of the checkpoint is missing, damaged or another query's",
        """STREAMING_CHECKPOINT_MISSING_METADATA_FILE
        STREAMING_STATEFUL_OPERATOR_MISSING_STATE_DIRECTORY
        STREAMING_UNFINISHED_REPARTITION_DETECTED
        CHECKPOINT_FILE_CHECKSUM_VERIFICATION_FAILED
        STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY
        STATE_STORE_CHECKPOINT_IDS_NOT_SUPPORTED
        STATE_STORE_BASE_CHECKPOINT_ID_MISMATCH
        STATE_STORE_ROW_CHECKSUM_VERIFICATION_FAILED
        STATE_STORE_KEY_ROW_FORMAT_VALIDATION_FAILURE
        STATE_STORE_VALUE_ROW_FORMAT_VALIDATION_FAILURE
        STATE_STORE_UNEXPECTED_EMPTY_FILE_IN_ROCKSDB_ZIP
        CANNOT_LOAD_STATE_STORE.AUTO_SNAPSHOT_REPAIR_FAILED
        CANNOT_LOAD_STATE_STORE.CANNOT_FIND_BASE_SNAPSHOT_CHECKPOINT
        CANNOT_LOAD_STATE_STORE.CANNOT_READ_*
        CANNOT_LOAD_STATE_STORE.INVALID_*
        CANNOT_LOAD_STATE_STORE.KEY_ROW_FORMAT_VALIDATION_FAILURE
        CANNOT_LOAD_STATE_STORE.VALUE_ROW_FORMAT_VALIDATION_FAILURE
        CANNOT_LOAD_STATE_STORE.SNAPSHOT_PARTITION_ID_NOT_FOUND
        CANNOT_LOAD_STATE_STORE.UNEXPECTED_*
        INVALID_LOG_VERSION
        MALFORMED_LOG_FILE
        STDS_*""",
        r"""incomplete log file
        log file was malformed
        \bbatch \d+ (?:doesn't|does not) exist
        error reading (?:delta|snapshot) file .*(?:state|does not exist)
        checksum error: \S+ at \d+ exp:
        foreign checkpoint""",
    ),
    _rule(
        FailureClass.DETERMINISTIC,
        "access was denied",
        "",
        r"""(?:Sasl|Ssl)?AuthenticationException
        (?:Topic|Group|Cluster|TransactionalId)?AuthorizationException
        not authorized to access
        (?:Topic|Group|Cluster)AuthorizationFailedError
        AuthenticationFailedError
        SSL handshake failed
        \bNOAUTH\b|\bWRONGPASS\b|\bNOPERM\b|redis\.exceptions\.AuthenticationError
        AccessControlException|AccessDeniedException|PermissionError:|permission denied
        \b403 Forbidden\b
        headgate\.tables\.answers\.StoreDenied""",
    ),
    _rule(
        FailureClass.DETERMINISTIC,
        "a value cannot be computed or stored",
        """CAST_INVALID_INPUT
        CAST_OVERFLOW
        ARITHMETIC_OVERFLOW
        DIVIDE_BY_ZERO
        NUMERIC_VALUE_OUT_OF_RANGE
        CANNOT_PARSE_TIMESTAMP
        USER_RAISED_EXCEPTION
        DATA_SOURCE_NOT_FOUND
        JAVA_GATEWAY_EXITED""",
        r"""RecordTooLargeException
        (?:UnsupportedClassVersion|NoClassDefFound|NoSuchMethod|NoSuchField)Error
        java\.lang\.ClassNotFoundException
        Java gateway process exited before sending""",
    ),
    _rule(
        FailureClass.TRANSIENT,
        "the driver's own JVM went away",
        "",
        r"""Py4JNetworkError
        answer from Java side is empty
        error occurred while trying to connect to the Java server
        py4j[\s\S]{0,4000}ConnectionRefusedError
        ConnectionRefusedError[\s\S]{0,4000}py4j""",
    ),
    _rule(
        FailureClass.DEPENDENCY,
        "Kafka does not answer",
        "",
        r"""kafka\.common\.errors\.(?:Timeout|Disconnect|Network|NotLeaderOrFollower|LeaderNotAvailable)Exception
        (?:Coordinator|Broker)NotAvailable(?:Exception|Error)
        (?:NotEnoughReplicas|KafkaStorage|NotController|NotCoordinator)\w*Exception
        (?:NoBrokersAvailable|KafkaTimeoutError|KafkaConnectionError|BootstrapTimeout\w*)
        timed out waiting for a node assignment
        timeout of \d+\s?ms expired before
        timeout expired while fetching topic metadata
        not present in metadata after \d+ ms
        no resolvable bootstrap urls
        expiring \d+ record\(s\) for""",
    ),
    _rule(
        FailureClass.DEPENDENCY,
        "Redis does not answer or cannot write",
        "",
        r"""redis\.exceptions\.(?:Connection|Timeout|BusyLoading|ClusterDown|ReadOnly|OutOfMemory)Error
        error \d+ connecting to \S+:\d+
        Redis is loading the dataset
        \bMISCONF Redis
        OOM command not allowed when used memory
        READONLY You can't write""",
    ),
    _rule(
        FailureClass.DEPENDENCY,
        "a disk, an object store or the network does not serve",
        "",
        r"""no space left on device
        disk quota exceeded
        read-only file system
        stale (?:NFS )?file handle
        input/output error
        ConnectException|NoRouteToHostException|UnknownHostException|SocketTimeoutException
        connection (?:refused|reset|timed out)
        name or service not known|temporary failure in name resolution
        \b503 (?:Slow Down|Service Unavailable)|\bSlowDown\b
        Generic S3 error|HTTP error: error sending request
        headgate\.errors\.TablesUnavailable
        (?:read|connect) timed out""",
    ),
    _rule(
        FailureClass.TRANSIENT,
        "memory, an executor or a worker was lost",
        """*_OUT_OF_MEMORY
        UNABLE_TO_ACQUIRE_MEMORY
        SPARK_JOB_CANCELLED
        STAGE_MATERIALIZATION_MULTIPLE_FAILURES
        DELTA_CONCURRENT_*""",
        r"""OutOfMemoryError|GC overhead limit exceeded|\bMemoryError\b
        ExecutorLostFailure|lost executor|remote RPC client disassociated
        (?:Metadata)?FetchFailed
        Python worker (?:exited unexpectedly|failed to connect back)
        SparkContext (?:was|has been) shut ?down|stopped SparkContext
        too many open files
        address already in use|BindException
        Concurrent(?:Append|DeleteRead|DeleteDelete|Write|Modification)Exception
        CommitFailedError|commit conflict""",
    ),
    _rule(
        FailureClass.CHECKPOINT,
        "the checkpoint could not be read or written",
        """CANNOT_LOAD_STATE_STORE
        CANNOT_WRITE_STATE_STORE
        CANNOT_LOAD_CHECKPOINT_FILE_MANAGER
        FAILED_RENAME_TEMP_FILE""",
    ),
    _rule(
        FailureClass.DETERMINISTIC,
        "the job itself is wrong",
        """UNRESOLVED_*
        TABLE_OR_VIEW_NOT_FOUND
        COLUMN_NOT_FOUND
        FIELD_NOT_FOUND
        PATH_NOT_FOUND
        DATATYPE_MISMATCH
        PARSE_SYNTAX_ERROR
        INVALID_*
        UNSUPPORTED_*
        STREAMING_OUTPUT_MODE
        MERGE_CARDINALITY_VIOLATION
        KAFKA_NULL_TOPIC_IN_DATA
        DELTA_*""",
        # SQLSTATE classes: wrong cardinality, data exceptions, constraints, syntax and access rules, what
        # Spark does not offer, limits of a program, and errors raised on purpose.
        r"""SQLSTATE:\s*(?:0A|21|22|23|42|46|54|P0)[0-9A-Z]{3}
        AnalysisException|ParseException
        ModuleNotFoundError|ImportError|SyntaxError|IndentationError|NameError
        IllegalArgumentException
        headgate\.errors\.(?:Contract|Settings)Error""",
    ),
)
