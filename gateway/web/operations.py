"""What operators ask: whether it lives and is ready, what it counts, what a code means."""

import ipaddress
import re
from collections.abc import Iterator
from html import escape

from flask import Blueprint, Response, jsonify, make_response, request
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.errors import ERRORS, ErrorCode, GatewayError, LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations import is_current
from gateway.metrics import collect_into
from gateway.settings import Settings
from gateway.web.callers import caller_of
from gateway.web.docs.description import (
    Description,
    Key,
    Success,
    Tag,
    described,
    json_content,
    text_content,
)
from gateway.web.problems import explanations
from schemas.health import HealthSchema

# A proxy on this machine is a loopback peer too; a header like these gives it away.
_FORWARDING_HEADER = re.compile(
    r"forwarded|via|x-real-ip|x-.*forwarded.*|.*(client|connecting)-ip", re.IGNORECASE
)

_health = HealthSchema()


def blueprint(settings: Settings, ledger: Ledger) -> Blueprint:
    operations = Blueprint("operations", __name__)

    @operations.get("/healthz")
    @described(
        Description(
            "getHealth",
            Tag.OPERATIONS,
            "Is the process alive?",
            {200: Success("Alive.", json_content(_health, {"status": "ok"}))},
        )
    )
    def health() -> Response:
        return jsonify(status="ok")

    @operations.get("/readyz")
    @described(
        Description(
            "getReadiness",
            Tag.OPERATIONS,
            "Can it accept opt-outs?",
            {200: Success("Ready.", json_content(_health, {"status": "ready"}))},
            (ErrorCode.LEDGER_UNAVAILABLE,),
            "Checks the database, never CRM Text.",
        )
    )
    def readiness() -> Response:
        if not is_current(ledger.engine):
            what = "The ledger's tables are not those of this release; run the release step."
            raise LedgerUnavailable(what)
        return jsonify(status="ready")

    @operations.get("/metrics")
    @described(
        Description(
            "getMetrics",
            Tag.OPERATIONS,
            "Metrics for Prometheus",
            {
                200: Success(
                    "Current metrics.", text_content("text/plain", "application/openmetrics-text")
                )
            },
            (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN),
            "Needs a key that is bound to no store; from the same machine, none.",
            key=Key.OPTIONAL,
        )
    )
    def metrics() -> Response:
        _may_scrape(settings)
        content, media_type = _scrape(ledger, request.headers.get("Accept", ""))
        response = make_response(content)
        response.content_type = media_type
        return response

    @operations.get("/problems/<code>")
    @described(
        Description(
            "explainProblem",
            Tag.OPERATIONS,
            "What a problem's code means",
            {200: Success("For a person.", text_content("text/plain", "text/html"))},
            (ErrorCode.NOT_FOUND,),
        )
    )
    def problem_page(code: str) -> Response:
        if code not in ERRORS:
            raise GatewayError(ErrorCode.NOT_FOUND, "There is no such problem code.")
        wants_html = request.accept_mimetypes.best_match(["text/plain", "text/html"]) == "text/html"
        page = _page(ErrorCode(code)) if wants_html else _text(ErrorCode(code))
        response = make_response(page)
        response.content_type = f"text/{'html' if wants_html else 'plain'}; charset=utf-8"
        response.headers["Vary"] = "Accept"
        return response

    return operations


class LedgerCollector(Collector):
    """What the ledger knows, asked at each scrape, and so true on any number of machines."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        reachable = GaugeMetricFamily("ledger_up", "Whether the ledger answered this scrape.")
        try:
            summary = self._ledger.summary()
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
            "optout_errors", "Opt-outs on record by their last error.", labels=["status", "code"]
        )
        for (status, code), count in summary.errors.items():
            errors.add_metric([status, code], count)
        yield errors
        # Not only a line of the above: 0 has to be there for the first one to be an increase.
        unusable = ErrorCode.INVALID_PHONE_NUMBER
        yield CounterMetricFamily(
            "optout_unusable_numbers",
            "Opt-outs that a webhook reported without a usable phone number.",
            value=sum(n for (_, code), n in summary.errors.items() if code == unusable),
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
            "Calls to CRM Text that are under way, or whose process died in the middle.",
            value=summary.attempts.get(None, 0),
        )
        yield GaugeMetricFamily(
            "optout_pending", "Opt-outs that the gateway still delivers.", value=summary.pending
        )
        yield GaugeMetricFamily(
            "optout_oldest_pending_seconds",
            "Age of the oldest opt-out that is still pending; 0 if there is none.",
            value=summary.oldest_pending_seconds,
        )
        yield GaugeMetricFamily(
            "optout_worker_last_seen_timestamp_seconds",
            "When a worker last gave a sign of life; 0 if there never was one.",
            value=summary.worker_seen_at.timestamp() if summary.worker_seen_at else 0,
        )


def _may_scrape(settings: Settings) -> None:
    """A key bound to no store, or a program on this machine that came here directly."""
    if "Authorization" not in request.headers and _is_local():
        return
    caller = caller_of(settings.api_keys, request.headers.get("Authorization", ""))
    if caller.stores is not None:
        raise GatewayError(
            ErrorCode.FORBIDDEN, "Metrics are for keys that are not bound to stores."
        )


def _is_local() -> bool:
    if any(_FORWARDING_HEADER.fullmatch(header) for header, _ in request.headers):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _scrape(ledger: Ledger, accept: str) -> tuple[bytes, str]:
    registry = CollectorRegistry()
    collect_into(registry)
    registry.register(LedgerCollector(ledger))
    try:
        encode, media_type = exposition.choose_encoder(accept)
    except (TypeError, ValueError):  # of a version that is none
        encode, media_type = exposition.choose_encoder("")
    return encode(registry), media_type


def _text(code: ErrorCode) -> str:
    kind = ERRORS[code]
    again = f"yes, after {kind.retry_after} s or as Retry-After says" if kind.retryable else "no"
    return (
        f"{code}\n\n{kind.title}.\n\n{explanations()[code]}\n\n"
        f"HTTP status: {kind.status}\nRetry the same request: {again}\n"
    )


def _page(code: ErrorCode) -> str:
    title, _, rest = _text(code).partition("\n")
    paragraphs = "".join(f"<p>{escape(part)}</p>" for part in rest.strip().split("\n\n"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1>{paragraphs}</html>"
    )
