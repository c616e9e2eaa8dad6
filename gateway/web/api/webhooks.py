"""Webhooks of other services: verified, turned into opt-outs, on record before the answer."""

import logging
from datetime import UTC, datetime, timedelta

from flask import Blueprint, Response, g, make_response, request

from gateway.bodies import LARGEST_WEBHOOK
from gateway.consent import OptOutRequest
from gateway.delivery.acceptance import Acceptance
from gateway.errors import ErrorCode, GatewayError
from gateway.ledger.intake import Entry, Recorded
from gateway.ledger.receipts import Receipt
from gateway.ledger.webhook_messages import IGNORED, WebhookMessages
from gateway.logs import request_id
from gateway.metrics import REFUSALS
from gateway.settings import Settings
from gateway.web.answers import json_answer
from gateway.web.docs import examples
from gateway.web.docs.description import (
    Description,
    Success,
    Tag,
    described,
    dumped,
    text_content,
)
from gateway.web.problems import problem
from gateway.web.requests import BODY_PROBLEMS, read_body
from gateway.webhooks.description import advice
from gateway.webhooks.signatures import SENTENCES, SignedRequest
from gateway.webhooks.source import Answer, Reading, WebhookSource, Withdrawal
from schemas.webhook import WebhookAnswerSchema

_A_BODY_REPEATS_WITHIN = timedelta(hours=24)

_schema = WebhookAnswerSchema()
_log = logging.getLogger(__name__)


def blueprint(settings: Settings, acceptance: Acceptance, messages: WebhookMessages) -> Blueprint:
    """The address of all sources: no API key, the source's own signature instead."""
    webhooks = Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")

    @webhooks.post("/<source>")
    @described(
        Description(
            "receiveWebhook",
            Tag.WEBHOOKS,
            "Receive a webhook",
            {
                200: Success(
                    "Nothing in it is an opt-out; Twilio always gets this.",
                    {
                        **dumped(_schema, examples.NOTHING_ACCEPTED),
                        **text_content("text/xml"),
                    },
                ),
                202: Success(
                    "Accepted; delivery continues in the background.",
                    dumped(_schema, examples.WEBHOOK_ANSWER),
                ),
            },
            (
                *BODY_PROBLEMS,
                ErrorCode.UNAUTHORIZED,
                ErrorCode.LEDGER_UNAVAILABLE,
                ErrorCode.NOT_FOUND,
            ),
            "No API key: the webhook carries its source's signature. The body is as the source "
            "sends it.",
            {
                "application/json": {"schema": {}},
                "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
            },
        )
    )
    def receive(source: str) -> Response:
        sender = settings.webhook_sources.get(source)
        if sender is None:
            raise GatewayError(ErrorCode.NOT_FOUND, "There is no webhook source of this name.")
        body = read_body(limit=LARGEST_WEBHOOK, written_as=sender.body, may_lack_type=True)
        headers = {header.lower(): text for header, text in request.headers.items()}
        now = datetime.now(UTC)
        refusal = sender.verify(SignedRequest(request.method, _url(settings), headers, body), now)
        if refusal:
            note_refused(source, refusal, advice(sender, refusal, now))
            raise GatewayError(ErrorCode.UNAUTHORIZED, SENTENCES[refusal])
        reading = sender.read(body, headers, now)
        recorded = acceptance.accept_all([_entry(sender, one) for one in reading.withdrawals])
        g.opt_outs = [one.opt_out for one in recorded]  # for the log
        if not recorded:
            messages.count(source, IGNORED)
            _log.info("webhook ignored", extra={"source": source, "events": reading.ignored})
        return _answer(sender, reading, recorded)

    @webhooks.errorhandler(GatewayError)
    def refuse(error: GatewayError) -> Response:
        name = (request.view_args or {}).get("source", "")
        # A wrong signature is noted where it is found, with a reason of its own.
        if name in settings.webhook_sources and error.code != ErrorCode.UNAUTHORIZED:
            note_refused(name, error.code, error.detail)
        return problem(error.failure)

    def note_refused(source: str, reason: str, what_to_do: str) -> None:
        REFUSALS.labels(source, reason).inc()
        messages.count(source, reason)
        extra = {"source": source, "why": reason, "what_to_do": what_to_do}
        _log.warning("webhook refused", extra=extra)

    return webhooks


def _url(settings: Settings) -> str:
    """The address as its sender knows it: never the Host header, which anybody can set."""
    query = request.query_string.decode("latin-1")
    return f"{settings.public_url or ''}{request.path}{'?' if query else ''}{query}"


def _entry(source: WebhookSource, withdrawal: Withdrawal) -> Entry:
    asked = OptOutRequest(
        phone_number=withdrawal.phone_number,
        store=source.store,
        source=f"webhook:{source.name}",
        request_id=request_id.get(),
        requested_at=withdrawal.requested_at,
        delivery_id=withdrawal.delivery_id,
    )
    valid_for = _A_BODY_REPEATS_WITHIN if withdrawal.expires else None
    receipt = Receipt(withdrawal.repeat_key, withdrawal.repeat_key, valid_for)
    return Entry([asked], receipt)


def _answer(source: WebhookSource, reading: Reading, recorded: list[Recorded]) -> Response:
    if source.answer is Answer.TWIML:
        response = make_response("<Response/>")
        response.content_type = "text/xml"
        return response
    opt_outs = [
        {"id": one.opt_out.id, "status": one.opt_out.status, "location": _location(one)}
        for one in recorded
    ]
    answer = {"accepted": len(recorded), "ignored": reading.ignored, "opt_outs": opt_outs}
    return json_answer(_schema, answer, 202 if recorded else 200)


def _location(recorded: Recorded) -> str:
    return f"/v1/opt-outs/{recorded.opt_out.id}"
