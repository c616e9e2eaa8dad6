"""What this process counts. What happened to opt-outs is read from the ledger instead, at scrape.

No label holds a number, an id or anything that a caller may choose.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Histogram(
    "http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25),
)
UPSTREAM = Histogram(
    "crmtext_call_duration_seconds",
    "Time of a call to CRM Text, by what it came to.",
    ["outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 6, 10, 20),
)
PACE = Histogram(
    "crmtext_pace_wait_seconds",
    "Time a call waited for its turn within CRMTEXT_RATE.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4),
)
REFUSALS = Counter(
    "webhook_refusals",
    "Webhook messages that were refused, by source and reason.",
    ["source", "reason"],
)


def collect_into(registry: CollectorRegistry) -> None:
    """Registers all of the above: of all web processes under gunicorn, else of this one."""
    try:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError:  # there is no folder that processes share
        for metric in (REQUESTS, UPSTREAM, PACE, REFUSALS):
            registry.register(metric)
