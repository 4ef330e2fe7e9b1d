"""Topics as the exporter sees them, against a real broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kafka.errors import KafkaError
from monitoring_examples import frozen
from watched_platform import until

from headgate.settings import Settings
from headgate.topics.apply import apply_plan
from headgate.topics.kafka import admin_client
from headgate.topics.plan import make_plan
from monitoring.snapshot import TopicHealth
from monitoring.sources.contracts import ContractsReader
from monitoring.sources.topics import read_topics


def test_a_topic_that_was_made_anew_is_told(service_settings: Settings, broker: Any, tmp_path: Path) -> None:
    roots = service_settings.roots.model_copy(update={"state": str(tmp_path / "state")})
    settings = service_settings.model_copy(update={"roots": roots})
    contract = frozen("monitored-anew")
    apply_plan(settings, make_plan(settings, [contract]), by="test")
    contracts = ContractsReader(settings.state).read().value

    def look() -> TopicHealth:
        (found,) = read_topics(settings, lambda: contracts).value
        return found

    assert look() == TopicHealth("monitored-anew_in", 0, False)
    with admin_client(settings) as admin:
        admin.delete_topics(["monitored-anew_in"])
        until("it is gone", lambda: look().drift)
        assert look().recreated is None
        until("it is back", lambda: _made(admin, "monitored-anew_in"))
    until("another id", lambda: look().recreated)


def _made(admin: Any, topic: str) -> bool:
    """Kafka refuses the name until the old topic's files are gone."""
    try:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    except KafkaError:
        return False
    return True
