"""Draining: a stream runs on until what its topics held at the moment of the order is committed.

The end offsets are read once, when the order is given, and kept with it in the store; from then on only
the checkpoint is looked at, so that neither Kafka nor the person who ordered has to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from headgate.settings import Settings

__all__ = ["Ends", "EndsOf", "LeftOf", "end_offsets", "left_behind", "left_of"]

Ends = Mapping[str, Mapping[int, int]]
EndsOf = Callable[[str], Ends]
LeftOf = Callable[[str, str, Ends], int | None]


def left_behind(ends: Ends, read: Mapping[str, Ends], topics: Mapping[str, Iterable[str]]) -> int:
    """How many records, by offsets, the slowest query has not committed of what is before `ends`.

    `read` is where each query goes on, `topics` what it reads; a partition that a query has not come to
    yet is read from its beginning. 0 says that all of it is committed by every query.
    """
    return max(
        (
            sum(
                max(end - read.get(query, {}).get(topic, {}).get(partition, 0), 0)
                for topic in set(names)
                for partition, end in ends.get(topic, {}).items()
            )
            for query, names in topics.items()
        ),
        default=0,
    )


def end_offsets(settings: Settings) -> EndsOf:
    """Asks Kafka where the topics of a contract end. Raises KafkaUnavailable, NotFoundError."""

    def ask(contract_hash: str) -> Ends:
        from kafka import TopicPartition

        from headgate.contract.frozen import ContractStore
        from headgate.topics.kafka import admin_client
        from headgate.topics.lag import offset_range
        from headgate.topics.live import topic_partitions

        topics = ContractStore(settings.state).get(contract_hash).topics.values()
        with admin_client(settings) as admin:
            counts = {name: count for name, (_, count) in topic_partitions(admin, topics).items()}
            keys = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
            _, ends = offset_range(admin, keys)
        found: dict[str, dict[int, int]] = {name: {} for name in counts}
        for key, offset in ends.items():
            found[key.topic][key.partition] = offset
        return found

    return ask


def left_of(settings: Settings) -> LeftOf:
    """Looks into the checkpoint of a pipeline; None while that cannot be said."""

    def look(pipeline: str, contract_hash: str, ends: Ends) -> int | None:
        from headgate.checkpoints.layout import CheckpointLayout
        from headgate.checkpoints.logs import committed_offsets
        from headgate.contract.frozen import ContractStore
        from headgate.errors import HeadgateError
        from headgate.topics.lag import initial_offsets, queries_of

        layout = CheckpointLayout(settings.checkpoints, pipeline)
        try:
            frozen = ContractStore(settings.state).get(contract_hash)
            lineage = layout.current_lineage()
            sources, read = queries_of(frozen), {}
            for query, names in sources.items() if lineage is not None else ():
                folder = layout.query(str(lineage), query)
                committed = committed_offsets(folder)
                begun = {frozen.topics[name]: initial_offsets(folder, name) for name in names}
                read[query] = begun if committed is None else {**begun, **committed.offsets}
        except (HeadgateError, OSError):
            return None  # the driver or preflight says what is wrong; a drain only waits
        topics = {query: [frozen.topics[name] for name in names] for query, names in sources.items()}
        return left_behind(ends, read, topics)

    return look
