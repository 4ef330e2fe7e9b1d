"""Every metric headgate exposes, and the collectors that a process builds from the definitions.

A process builds its collectors into a registry of its own: `build(CollectorRegistry(), "driver")`.
Nothing here registers anything by being imported. Counters and histograms start at 0 with each
process; what must outlive a driver (rows committed, lag, desired state) comes from the exporter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from monitoring.definitions import LABEL_VALUES, METRICS, by_name
from monitoring.metric import Metric, Process

__all__ = [
    "LABEL_VALUES",
    "METRICS",
    "Collector",
    "Metric",
    "Process",
    "build",
    "by_name",
    "family",
    "precreate",
]

Collector = Counter | Gauge | Histogram


def build(registry: CollectorRegistry, process: Process) -> dict[str, Collector]:
    """Create the collectors of one process in its registry, by metric name.

    Call once per process, at its start. `_created` series are switched off: they double every
    counter and nobody reads them.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return {m.name: _collector(m, registry) for m in METRICS if process in m.processes}


def precreate(collectors: Mapping[str, Collector], labels: Mapping[str, Sequence[str]]) -> None:
    """Create counters and histograms at 0 for each combination of these label values.

    Closed labels (outcome) are filled in. Without a first 0 there is no increase to see when the first
    failure happens. Gauges are left alone, since a moment of 0 would read as 1970. A metric with a
    label that has no values is skipped.
    """
    for name, collector in collectors.items():
        names = by_name(name).labels
        known = {**LABEL_VALUES.get(name, {}), **labels}
        if isinstance(collector, Gauge) or not names or not set(names) <= set(known):
            continue
        for values in product(*(known[label] for label in names)):
            collector.labels(*values)


def family(
    name: str, samples: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily | GaugeMetricFamily:
    """One metric with its samples, for collectors that compute at scrape time."""
    metric = by_name(name)
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    result = kind(metric.name, metric.help, labels=metric.labels)
    for values, value in samples:
        if len(values) != len(metric.labels):
            raise ValueError(f"{name} has the labels {metric.labels}, not {len(values)} values")
        result.add_metric(values, value)
    return result


def _collector(metric: Metric, registry: CollectorRegistry) -> Collector:
    if metric.type == "histogram":
        return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    if metric.type == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)
