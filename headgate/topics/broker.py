"""What a plan does to the broker: each topic action, and a rehearsal of it that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType

from headgate.errors import PlanChangedError, ServiceError
from headgate.topics.differences import Action, Refusal

__all__ = ["TOPIC_ACTIONS", "carry_out_topic", "rehearse"]

TOPIC_ACTIONS = ("create_topic", "add_partitions", "change_config")


def rehearse(admin: KafkaAdminClient, actions: Sequence[Action]) -> list[Refusal]:
    """The broker's own objections to the topic actions: bad values, too few brokers, no rights."""
    objections = []
    for action in actions:
        if action.kind not in TOPIC_ACTIONS:
            continue
        objection = _ask(admin, action, validate_only=True)
        if objection is not None:
            help = "change the contract, or the broker's policy, and run headgate plan again"
            objections.append(
                Refusal("broker_refused", action.address, action.pipeline, f"the broker: {objection}", help)
            )
    return objections


def carry_out_topic(admin: KafkaAdminClient, action: Action) -> None:
    """Do it. Raises PlanChangedError when somebody was faster, ServiceError when the broker refuses."""
    objection = _ask(admin, action, validate_only=False)
    if objection is not None:
        kind = PlanChangedError if objection.startswith("TopicAlreadyExists") else ServiceError
        raise kind(
            f"{action.address}: {action.summary}: the broker refused: {objection}",
            help="headgate plan shows what is there now",
        )
    if action.kind != "change_config":
        admin.wait_for_topics([action.arguments["topic"]])


def _ask(admin: KafkaAdminClient, action: Action, *, validate_only: bool) -> str | None:
    """The broker's objection, or None."""
    arguments = action.arguments
    if action.kind == "change_config":
        return _alter(admin, arguments["topic"], arguments["changes"], validate_only)
    if action.kind == "create_topic":
        answer = admin.create_topics(
            {
                arguments["topic"]: {
                    "num_partitions": arguments["partitions"],
                    "replication_factor": arguments["replication"],
                    "configs": dict(arguments["configs"]),
                }
            },
            validate_only=validate_only,
            raise_errors=False,
        )["topics"][0]
        return _objection(answer["error_code"], answer.get("error_message"))
    result = admin.create_partitions(
        {arguments["topic"]: arguments["to"]}, validate_only=validate_only, raise_errors=False
    ).results[0]
    return _objection(result.error_code, result.error_message)


def _objection(code: int, message: str | None) -> str | None:
    if code == 0:
        return None
    name = kafka_errors.for_code(code).__name__.removesuffix("Error")
    return f"{name}: {message}" if message else name


def _alter(admin: KafkaAdminClient, topic: str, changes: dict[str, Any], validate_only: bool) -> str | None:
    wanted = {
        key: (AlterConfigOp.DELETE, None) if new is None else (AlterConfigOp.SET, new)
        for key, (_, new) in changes.items()
    }
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, wanted)
    answer = admin.alter_configs([resource], validate_only=validate_only)["topic"][topic]
    return None if answer == "OK" else str(answer)
