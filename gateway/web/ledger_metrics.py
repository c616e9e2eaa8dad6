"""The metrics for Prometheus: those of the web processes, and those that the ledger knows."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.errors import ErrorCode, LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.webhook_messages import Activity, read_activity
from gateway.metrics import collect_into


def scrape(ledger: Ledger, accept: str) -> tuple[bytes, str]:
    """All metrics in the format that an Accept header asks for, and its media type."""
    registry = CollectorRegistry()
    collect_into(registry)
    registry.register(LedgerCollector(ledger))
    try:
        encode, media_type = exposition.choose_encoder(accept)
    except (TypeError, ValueError):  # the header names no version that there is
        encode, media_type = exposition.choose_encoder("")
    return encode(registry), media_type


class LedgerCollector(Collector):
    """Asks the ledger at each scrape, so that the answer is right on any number of machines."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        reachable = GaugeMetricFamily("ledger_up", "Whether an opt-out could be recorded now.")
        try:
            self._ledger.check_writable()
            summary = self._ledger.summary()
            activity = read_activity(self._ledger.engine)
        except LedgerUnavailable:
            reachable.add_metric([], 0)
            yield reachable
            return
        reachable.add_metric([], 1)
        yield reachable
        opt_outs = GaugeMetricFamily("optouts", "Opt-outs on record.", labels=["status", "source"])
        for (status, source), count in summary.opt_outs.items():
            opt_outs.add_metric([status, source], count)
        yield opt_outs
        errors = GaugeMetricFamily(
            "optout_errors",
            "Opt-outs on record by their last error.",
            labels=["status", "code", "store"],
        )
        for labels, count in summary.errors.items():
            errors.add_metric(labels, count)
        yield errors
        # A metric of its own: an alert needs its 0 to see the first increase.
        unusable = ErrorCode.INVALID_PHONE_NUMBER
        yield CounterMetricFamily(
            "optout_unusable_numbers",
            "Opt-outs that a webhook reported without a usable phone number.",
            value=sum(n for (_, code, _), n in summary.errors.items() if code == unusable),
        )
        attempts = CounterMetricFamily(
            "optout_attempts", "Calls to CRM Text on record.", labels=["outcome"]
        )
        for outcome, count in summary.attempts.items():
            if outcome is not None:
                attempts.add_metric([outcome], count)
        yield attempts
        yield GaugeMetricFamily(
            "optout_attempts_unfinished",
            "Calls to CRM Text that are running, or whose process died.",
            value=summary.attempts.get(None, 0),
        )
        yield GaugeMetricFamily(
            "optout_pending",
            "Opt-outs still to be delivered.",
            value=summary.pending,
        )
        yield GaugeMetricFamily(
            "optout_oldest_pending_seconds",
            "Age of the oldest opt-out that is still pending; 0 if there is none.",
            value=summary.oldest_pending_seconds,
        )
        yield GaugeMetricFamily(
            "optout_worker_last_seen_timestamp_seconds",
            "When a worker was last seen; 0 if never.",
            value=summary.worker_seen_at.timestamp() if summary.worker_seen_at else 0,
        )
        yield from _of_webhooks(activity)


def _of_webhooks(activity: Mapping[str, Activity]) -> Iterator[Metric]:
    """When each source last sent something good, and something that was refused.

    Times and not only counts: an alert can tell from them that nothing good has come since.
    """
    good = GaugeMetricFamily(
        "webhook_last_accepted_timestamp_seconds",
        "When an authentic webhook message last came, an opt-out or not; 0 if never.",
        labels=["source"],
    )
    bad = GaugeMetricFamily(
        "webhook_last_refused_timestamp_seconds",
        "When a webhook message was last refused for this reason.",
        labels=["source", "reason"],
    )
    for source, came in activity.items():
        moments = [count.last_at for count in (came.accepted, came.ignored) if count.last_at]
        good.add_metric([source], max(moments).timestamp() if moments else 0)
        for reason, count in came.refused.items():
            if count.last_at:
                bad.add_metric([source, reason], count.last_at.timestamp())
    yield good
    yield bad
