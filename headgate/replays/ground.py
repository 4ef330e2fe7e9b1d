"""What a replay stands on, looked up when it is used: its topics, and the contracts behind the live rows."""

from __future__ import annotations

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import last_contract
from headgate.checkpoints.ran import contracts_ran
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import RefusedError
from headgate.replays.model import Replay
from headgate.settings import Settings
from headgate.topics.kafka import admin_client
from headgate.topics.live import topic_partitions

__all__ = ["changed_topics", "writers"]


def changed_topics(settings: Settings, replay: Replay) -> list[str]:
    """Topics whose offsets mean other records than when the replay was ordered. Raises KafkaUnavailable."""
    with admin_client(settings) as admin:
        now = topic_partitions(admin, replay.topics)
    return [
        f"topic {name} is gone or was made anew since the replay was ordered"
        for name, id in sorted(replay.topics.items())
        if name not in now or now[name][0] != id
    ]


def writers(settings: Settings, pipeline: str, lineage: str) -> list[FrozenContract]:
    """Every contract that may have written the rows of the live tables; where not all that ran are known, all
    that were ever applied. Raises RefusedError, NotFoundError where one of them cannot be read."""
    layout, contracts = CheckpointLayout(settings.checkpoints, pipeline), ContractStore(settings.state)
    ran, whole = contracts_ran(layout)
    try:
        known = ran if whole else [*ran, *contracts.stored(pipeline)]
        last = last_contract(layout, lineage, RECORDS)
        return [contracts.get(each) for each in dict.fromkeys([*known, last])]
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            f"not every contract that has written the tables of {pipeline} can be read: {error}",
            help=f"restore the files in {settings.state / 'contracts'} from a backup",
        ) from error
