"""Builds the web application from its settings; importing this does nothing."""

import logging
import time
import uuid
from collections.abc import Sequence

from flask import Flask, Response, g, request

from gateway.assembly import make_acceptance, open_ledger
from gateway.consent import OptOut
from gateway.ledger.webhook_messages import WebhookMessages
from gateway.logs import request_id
from gateway.metrics import REQUESTS
from gateway.phone_number import mask_phone_numbers
from gateway.settings import Settings
from gateway.web import operations, problems
from gateway.web.api import opt_outs, webhooks
from gateway.web.docs import page
from gateway.web.requests import is_sound_request_id

_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}

# A webhook can bring thousands.
_MOST_LOGGED = 20
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})

_log = logging.getLogger(__name__)


def create_app(settings: Settings) -> Flask:
    app = Flask("gateway", static_folder=None)
    # A doubled slash is another address: the redirect would go to wherever the Host header says.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    ledger = open_ledger(settings)
    acceptance = make_acceptance(settings, ledger)
    messages = WebhookMessages(ledger.engine)
    app.register_blueprint(opt_outs.blueprint(settings, ledger, acceptance))
    app.register_blueprint(webhooks.blueprint(settings, acceptance, messages))
    app.register_blueprint(operations.blueprint(settings, ledger))
    app.register_blueprint(page.blueprint())
    problems.register(app)
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_forget)
    return app


def _begin() -> None:
    g.started_at = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    request_id.set(given if is_sound_request_id(given) else uuid.uuid4().hex)


def _end(response: Response) -> Response:
    seconds = time.monotonic() - g.started_at
    # The route, never the address: that may hold whatever a caller put into it.
    route = request.url_rule.rule if request.url_rule else "-"
    method = request.method if request.method in _METHODS else "-"
    REQUESTS.labels(method, route, response.status_code).observe(seconds)
    for name, text in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, text)
    response.headers["X-Request-ID"] = request_id.get()
    caller = g.get("caller")
    _log.log(
        logging.WARNING if response.status_code >= 500 else logging.INFO,
        "request answered",
        extra={
            "method": method,
            "route": route,
            "status": response.status_code,
            "seconds": round(seconds, 4),
            "caller": caller.name if caller else None,
            **_opt_outs_of_the_request(),
            **_problem_in(response),
        },
    )
    return response


def _opt_outs_of_the_request() -> dict[str, object]:
    """The members that the worker's lines have too, so that an opt-out can be followed."""
    opt_outs: Sequence[OptOut] = g.get("opt_outs", ())
    if len(opt_outs) == 1:
        return {"opt_out": opt_outs[0].id, "store": opt_outs[0].store}
    if not opt_outs:
        return {}
    stores = sorted({opt_out.store for opt_out in opt_outs})
    return {"opt_outs": [opt_out.id for opt_out in opt_outs[:_MOST_LOGGED]], "stores": stores}


def _problem_in(response: Response) -> dict[str, object]:
    if response.mimetype != problems.MEDIA_TYPE:
        return {}
    body = response.get_json()
    if response.status_code < 500:
        return {"code": body["code"]}
    return {"code": body["code"], "why": mask_phone_numbers(body["detail"])}


def _forget(_: BaseException | None) -> None:
    """What the server logs in this thread before the next request is not of this one."""
    request_id.set("-")
