"""The Spark session of a driver: pinned settings, in one place, with the reason for each."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.contract.model import seconds
from headgate.errors import SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from headgate.contract.model import Job
    from headgate.settings import Settings

__all__ = ["build_session", "class_archive", "meaning_confs", "session_confs"]

# ANSI off: a cast or a division must not raise, because one record would stop the stream. What ANSI
# would have caught is caught by `headgate.contract.compile` instead, and quarantined.
_PINNED: Mapping[str, str] = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Sources are named from day one: it cannot be switched on under an existing checkpoint.
    "spark.sql.streaming.queryEvolution.enableSourceEvolution": "true",
    # The second query on a checkpoint must fail, not silently stop the first.
    "spark.sql.streaming.stopActiveRunOnRestart": "false",
    "spark.sql.streaming.stopTimeout": "60s",
    "spark.sql.streaming.noDataProgressEventInterval": "5000",
    "spark.sql.streaming.numRecentProgressUpdates": "5",
    "spark.sql.streaming.metricsEnabled": "false",
    # A filter on what was computed stays above the computation: pushed below it, the JSON of a record would
    # be parsed again for each condition.
    "spark.sql.optimizer.avoidDoubleFilterEval": "true",
    "spark.locality.wait": "0",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # What goes to a Python worker at once: ten thousand records of a megabyte each would be too much.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(32 * 1024 * 1024),
    # Parquet's writer looks at the size of its pages after so many rows. After a hundred, its default, a
    # column of values of a megabyte would have come to a hundred megabytes in each task.
    "spark.hadoop.parquet.page.size.row.check.min": "10",
    "spark.sql.ui.retainedExecutions": "20",
    "spark.ui.retainedJobs": "50",
    "spark.ui.retainedStages": "50",
}
# Hadoop's local file system forks `chmod` for every file of the offset and commit logs; through the
# FileSystem API it does not: p50 of an empty batch 44 ms instead of 92. Its rename does not exclude a
# second writer, which Spark's check on a local disk does not safely do either: there the proof that the
# old driver is dead is the guarantee.
_LOCAL_CHECKPOINTS = (
    "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
)
# What a consumer of Kafka has fetched stays with it while it is idle, five minutes by the default of Spark: a
# query that starts again would for so long have the idle consumers of its earlier run beside its own.
_IDLE_SECONDS, _MOST_IDLE_SECONDS = 60, 300


def meaning_confs(job: Job) -> dict[str, str]:
    """The confs of a contract's session that are the same on every machine. Some of them Spark notes in
    the offset log, and keeps whatever a later session says."""
    confs = {name: _text(value) for name, value in job.spark.items()}
    confs.setdefault("spark.sql.shuffle.partitions", str(job.shuffle_partitions))
    return {**confs, **_PINNED}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def session_confs(settings: Settings, job: Job, *, brief: bool = False) -> dict[str, str]:
    """Every conf of a driver's session. No conf of a contract overrides a pinned one. A `brief` session is
    over before the time that Java's second compiler takes would come back."""
    jars = sorted(settings.jars_dir.glob("*.jar"))
    if not jars:
        raise SettingsError(f"there are no Spark jars in {settings.jars_dir}", help="make setup")
    confs = meaning_confs(job) | _place_confs(settings, job) | _consumer_confs(job)
    confs |= {
        "spark.jars": ",".join(map(str, jars)),
        "spark.driver.extraClassPath": ":".join(map(str, jars)),
        "spark.driver.memory": job.memory,
        "spark.driver.extraJavaOptions": " ".join(_java_options(settings, jars, brief=brief)),
        "spark.ui.enabled": str(settings.spark.ui).lower(),
        "spark.sql.warehouse.dir": str(settings.state / "spark" / "warehouse"),
        "spark.local.dir": str(settings.state / "spark" / "scratch"),
        "spark.sql.streaming.checkpointFileManagerClass": _LOCAL_CHECKPOINTS,
    }
    return confs


def _consumer_confs(job: Job) -> dict[str, str]:
    """Consumers that are used again outlive the time between two batches, and not much more."""
    between = 3 * seconds(job.trigger)
    idle = f"{round(min(max(between, _IDLE_SECONDS), _MOST_IDLE_SECONDS))}s"
    return {
        "spark.kafka.consumer.cache.timeout": idle,
        "spark.kafka.consumer.fetchedData.cache.timeout": idle,
    }


def _place_confs(settings: Settings, job: Job) -> dict[str, str]:
    """Where the work is done. On a cluster the driver still runs beside its supervisor (client mode)."""
    spark = settings.spark
    loopback = spark.driver_host in ("127.0.0.1", "localhost")
    confs = {
        "spark.driver.host": spark.driver_host,
        "spark.driver.bindAddress": "127.0.0.1" if loopback else "0.0.0.0",
    }
    if spark.master == "local":
        return {**confs, "spark.master": f"local[{job.cores}]"}
    # Without a limit a standalone cluster would give the first stream everything that it has.
    return {**confs, "spark.master": spark.master, "spark.cores.max": str(job.cores)}


def build_session(settings: Settings, job: Job, name: str, *, brief: bool = False) -> SparkSession:
    """Start the JVM and the session. Takes 3 to 6 seconds."""
    from pyspark.sql import SparkSession

    for folder in ("warehouse", "scratch"):
        (settings.state / "spark" / folder).mkdir(parents=True, exist_ok=True)
    # Read when the context is made; the workers of a cluster start this interpreter.
    os.environ["PYSPARK_PYTHON"] = settings.spark.python or sys.executable
    builder = SparkSession.builder.appName(name)
    for conf, value in session_confs(settings, job, brief=brief).items():
        builder = builder.config(conf, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    return session


def class_archive(settings: Settings, jars: list[Path]) -> Path:
    """The class-data-sharing archive for this JVM and class path, beside the jars whose classes it holds."""
    import pyspark

    seed = ",".join([pyspark.__version__, _java_home(), platform.machine(), *map(str, jars)])
    digest = hashlib.sha256(seed.encode()).hexdigest()[:12]
    return settings.jars_dir / f"classes-{digest}.jsa"


def _java_options(settings: Settings, jars: list[Path], *, brief: bool) -> list[str]:
    options = [
        *(["-XX:TieredStopAtLevel=1"] if brief else []),
        f"-Dderby.system.home={settings.state / 'spark'}",
        # CVE-2025-27817: no OAuth endpoint is allowed unless somebody lists it.
        "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=",
        "-XX:+ExitOnOutOfMemoryError",
    ]
    archive = class_archive(settings, jars)
    if settings.spark.class_data_archive and archive.is_file():
        options += [
            f"-XX:SharedArchiveFile={archive}",
            "-Xshare:auto",
            "-Xlog:cds=off",
            "-Xlog:cds+dynamic=off",
        ]
    extra = os.environ.get("HEADGATE_DRIVER_ARCHIVE_TO")
    if extra:
        options.append(f"-XX:ArchiveClassesAtExit={extra}")
    return options


def _java_home() -> str:
    """The Java that pyspark's launcher takes."""
    import shutil

    named = os.environ.get("JAVA_HOME")
    java = f"{named}/bin/java" if named else shutil.which("java")
    return str(Path(java).resolve()) if java else "none"
