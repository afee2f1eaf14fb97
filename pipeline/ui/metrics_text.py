"""Metrics in the text format of Prometheus."""

from collections.abc import Iterable, Iterator, Sequence
from math import inf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from pipeline.views.metrics import HistogramMetric, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Collected(Collector):
    """Metrics of one moment. No registry is kept: nothing of this process is among them, and nothing adds up."""

    def __init__(self, metrics: Sequence[Metric | HistogramMetric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Family]:
        for metric in self._metrics:
            yield _histogram(metric) if isinstance(metric, HistogramMetric) else _family(metric)

    def describe(self) -> Iterator[Family]:
        return iter(())  # otherwise the registry collects them twice


def metrics_text(metrics: Sequence[Metric | HistogramMetric]) -> bytes:
    """The metrics, one line for each sample."""
    registry = CollectorRegistry()
    registry.register(_Collected(metrics))
    return generate_latest(registry)


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for values, value in metric.samples.items():
        family.add_metric(values, value)
    return family


def _histogram(metric: HistogramMetric) -> Family:
    buckets = [("+Inf" if bound == inf else str(bound), float(count)) for bound, count in metric.buckets.items()]
    return HistogramMetricFamily(metric.name, metric.help, buckets=buckets, sum_value=metric.sum)
