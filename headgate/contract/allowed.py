"""What a contract may set of Kafka and of Spark: lists of what is allowed, everything else is refused."""

from __future__ import annotations

__all__ = ["SOURCE_OPTIONS", "SPARK_CONFS", "TOPIC_CONFIGS"]

# Client options a contract may set on the Kafka source. Everything else is refused: Kafka client
# options are code (CVE-2023-25194, CVE-2025-27817), and offsets and groups belong to headgate.
SOURCE_OPTIONS = frozenset(
    {
        "minPartitions",
        "maxRecordsPerPartition",
        "kafka.fetch.max.bytes",
        "kafka.max.partition.fetch.bytes",
        "kafka.max.poll.records",
        "kafka.fetch.min.bytes",
        "kafka.fetch.max.wait.ms",
        "kafka.isolation.level",
    }
)

# Spark confs a contract may set: tuning that changes speed and memory, not meaning, place or code.
SPARK_CONFS = frozenset(
    {
        "spark.sql.shuffle.partitions",
        "spark.sql.streaming.stateStore.providerClass",
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled",
        "spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage",
        "spark.sql.streaming.minBatchesToRetain",
        "spark.memory.fraction",
        "spark.memory.storageFraction",
        "spark.executor.instances",
        "spark.executor.memory",
        "spark.executor.cores",
        "spark.executor.memoryOverhead",
        "spark.task.maxFailures",
        "spark.sql.files.maxRecordsPerFile",
        "spark.databricks.delta.optimizeWrite.enabled",
        "spark.databricks.delta.autoCompact.enabled",
    }
)

# Topic configs that plan/apply manage. The names are Kafka's.
TOPIC_CONFIGS = frozenset(
    {
        "cleanup.policy",
        "compression.type",
        "delete.retention.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.ms",
        "unclean.leader.election.enable",
    }
)
