"""The operator's addresses: is it alive, is it ready, its metrics, and what a code means."""

import ipaddress
import re
from html import escape

from flask import Blueprint, Response, make_response, request

from gateway.errors import ERRORS, ErrorCode, GatewayError
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations import require_current
from gateway.settings import Settings
from gateway.web.answers import json_answer
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
from gateway.web.ledger_metrics import scrape
from gateway.web.problems import explanations
from schemas.health import HealthSchema

# A proxy on this machine is a loopback peer too; one of these headers gives it away.
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
        return json_answer(_health, {"status": "ok"})

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
        require_current(ledger.engine)
        ledger.check_writable()
        return json_answer(_health, {"status": "ready"})

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
            "Needs a key that is not bound to a store; no key from the same machine.",
            key=Key.OPTIONAL,
        )
    )
    def metrics() -> Response:
        _may_scrape(settings)
        content, media_type = scrape(ledger, request.headers.get("Accept", ""))
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


def _may_scrape(settings: Settings) -> None:
    """Allows a key that is not bound to a store, and direct calls from this machine."""
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


def _text(code: ErrorCode) -> str:
    kind = ERRORS[code]
    again = f"yes, after {kind.retry_after} s or as Retry-After says" if kind.retryable else "no"
    if kind.retryable and code.startswith("crmtext_"):
        again = "not for an opt-out, which the gateway retries by itself"
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
