"""Topics as they are against the applied contracts: drift, and topics made anew under an old name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headgate.settings import Settings
from headgate.topics.plan import Plan, make_plan
from monitoring.readings import AppliedContract
from monitoring.snapshot import TopicHealth
from monitoring.watch import Reading

__all__ = ["read_topics", "topic_health"]


def read_topics(
    settings: Settings, contracts: Callable[[], Mapping[str, AppliedContract]]
) -> Reading[tuple[TopicHealth, ...]]:
    """Plan the applied contracts against the live system: an apply of them would do nothing."""
    frozen = [applied.frozen for applied in contracts().values()]
    return Reading(topic_health(make_plan(settings, frozen)) if frozen else ())


def topic_health(plan: Plan) -> tuple[TopicHealth, ...]:
    """Differences by topic. Adopting a topic's id is bookkeeping, not drift."""
    found = []
    for topic, have in plan.seen["topics"].items():
        address = f"topic {topic}"
        drift = sum(action.address == address and action.kind != "adopt_topic" for action in plan.actions)
        drift += sum(refusal.address == address for refusal in plan.refusals)
        remembered = plan.seen["remembered"].get(topic)
        recreated = None if remembered is None or have is None else have["id"] != remembered
        found.append(TopicHealth(topic, drift, recreated))
    return tuple(found)
