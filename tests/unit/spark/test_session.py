from __future__ import annotations

from pathlib import Path

import pytest

from headgate.contract.allowed import SPARK_CONFS
from headgate.contract.model import Job
from headgate.errors import SettingsError
from headgate.settings import Settings
from spark.session import meaning_confs, session_confs


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    jars = tmp_path / "jars" / "spark"
    jars.mkdir(parents=True)
    for name in ("b.jar", "a.jar"):
        (jars / name).touch()
    return Settings(home=tmp_path)


def test_the_settings_that_exactness_rests_on_are_pinned(settings):
    confs = session_confs(settings, Job())
    assert confs["spark.sql.ansi.enabled"] == "false"
    assert confs["spark.sql.session.timeZone"] == "UTC"
    assert confs["spark.sql.streaming.stopActiveRunOnRestart"] == "false"
    assert confs["spark.sql.streaming.queryEvolution.enableSourceEvolution"] == "true"


def test_no_conf_that_a_contract_may_set_is_one_that_is_pinned(settings):
    ours = session_confs(settings, Job())
    assert SPARK_CONFS & set(ours) == {"spark.sql.shuffle.partitions"}


def test_a_contract_cannot_override_what_is_pinned(settings):
    job = Job.model_validate({"spark": {"spark.sql.ansi.enabled": "true", "spark.master": "yarn"}})
    confs = session_confs(settings, job)
    assert (confs["spark.sql.ansi.enabled"], confs["spark.master"]) == ("false", "local[2]")


def test_the_contracts_own_tuning_counts(settings):
    job = Job(cores=3, memory="3g", shuffle_partitions=7, spark={"spark.memory.fraction": 0.7})
    confs = session_confs(settings, job)
    assert confs["spark.master"] == "local[3]"
    assert confs["spark.driver.memory"] == "3g"
    assert confs["spark.sql.shuffle.partitions"] == "7"
    assert confs["spark.memory.fraction"] == "0.7"


def test_a_master_of_the_environment_is_taken_as_it_is(settings):
    cluster = settings.model_copy(
        update={"spark": settings.spark.model_copy(update={"master": "spark://host:7077"})}
    )
    assert session_confs(cluster, Job())["spark.master"] == "spark://host:7077"


def test_jars_are_listed_in_order_and_without_them_it_says_what_to_run(settings, tmp_path):
    names = [Path(name).name for name in session_confs(settings, Job())["spark.jars"].split(",")]
    assert names == ["a.jar", "b.jar"]
    for jar in (tmp_path / "jars" / "spark").iterdir():
        jar.unlink()
    with pytest.raises(SettingsError, match="there are no Spark jars") as caught:
        session_confs(settings, Job())
    assert caught.value.help == "make setup"


def test_on_a_cluster_a_stream_takes_the_cores_of_its_job_and_tells_workers_where_the_driver_is(settings):
    spark = settings.spark.model_copy(update={"master": "spark://host:7077", "driver_host": "10.0.0.7"})
    confs = session_confs(settings.model_copy(update={"spark": spark}), Job(cores=3))
    assert confs["spark.cores.max"] == "3"
    assert (confs["spark.driver.host"], confs["spark.driver.bindAddress"]) == ("10.0.0.7", "0.0.0.0")
    local = session_confs(settings, Job())
    assert (local["spark.driver.host"], local["spark.driver.bindAddress"]) == ("127.0.0.1", "127.0.0.1")
    assert "spark.cores.max" not in local


def test_the_confs_that_a_checkpoint_is_compared_with_are_those_of_the_session(settings):
    job = Job(shuffle_partitions=7, spark={"spark.databricks.delta.optimizeWrite.enabled": True})
    confs = session_confs(settings, job)
    meant = meaning_confs(job)
    assert {name: confs[name] for name in meant} == meant
    assert meant["spark.databricks.delta.optimizeWrite.enabled"] == "true"


@pytest.mark.parametrize(
    ("trigger", "expected"), [("2 seconds", "60s"), ("30 seconds", "90s"), ("10 minutes", "300s")]
)
def test_consumers_outlive_the_time_between_two_batches_and_not_much_more(settings, trigger, expected):
    confs = session_confs(settings, Job(trigger=trigger))
    assert confs["spark.kafka.consumer.cache.timeout"] == expected
    assert confs["spark.kafka.consumer.fetchedData.cache.timeout"] == expected
