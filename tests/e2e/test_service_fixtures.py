from __future__ import annotations

import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

pytestmark = pytest.mark.e2e


def test_broker_keeps_a_record_over_a_kill(broker):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics([NewTopic("fixture-kill", 1, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    producer.send("fixture-kill", b"one").get(timeout=120)
    producer.close()

    broker.kill()
    broker.start()

    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    partition = TopicPartition("fixture-kill", 0)
    assert consumer.end_offsets([partition])[partition] == 1
    consumer.close()


def test_broker_makes_no_topic_by_accident(broker):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    assert "never-made" not in admin.list_topics()
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, max_block_ms=2000)
    with pytest.raises(KafkaError):
        producer.send("never-made", b"x").get(timeout=5)
    producer.close(timeout=1)
    assert "never-made" not in admin.list_topics()
    admin.close()


def test_redis_keeps_a_value_over_a_restart(redis_server):
    client = redis.Redis.from_url(redis_server.url)
    client.set("fixture", "kept")
    client.close()

    redis_server.stop()
    redis_server.start()

    client = redis.Redis.from_url(redis_server.url)
    assert client.get("fixture") == b"kept"
    client.close()
