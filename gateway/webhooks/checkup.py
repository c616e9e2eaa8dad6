"""For whoever sets a webhook source up: what the gateway would do with a message.

Nothing said here contains a secret or a full number.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from gateway.bodies import LARGEST_WEBHOOK, check_media_type, too_large
from gateway.errors import ERRORS, ErrorCode, GatewayError
from gateway.phone_number import PhoneNumber, mask_phone_numbers
from gateway.timestamps import read_timestamp
from gateway.webhooks.description import Step, advice
from gateway.webhooks.expressions import Expression, ExpressionFailed
from gateway.webhooks.guesses import explain
from gateway.webhooks.saved_message import SavedMessage
from gateway.webhooks.signatures import Refusal, SignedRequest, Timestamp
from gateway.webhooks.source import Reading, WebhookSource, Withdrawal

_LONGEST_SHOWN = 100
# The time is judged last, so the signature itself is good.
_OF_TIME = (Refusal.MALFORMED_TIMESTAMP, Refusal.STALE_TIMESTAMP, Refusal.FUTURE_TIMESTAMP)


class Result(StrEnum):
    """What the gateway would do with a message in the end."""

    ACCEPTED = "accepted"
    IGNORED = "accepted; nothing in it is an opt-out"
    OPTS_NOBODY_OUT = "accepted, but opts nobody out"
    REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """What the gateway would do with a message, step by step, and in the end."""

    steps: Sequence[Step]
    result: Result


def judge(
    source: WebhookSource, saved: SavedMessage, public_url: str | None, at: datetime
) -> Verdict:
    """Goes through a message as if it came ``at`` that moment. Records nothing."""
    request = SignedRequest(
        saved.method, _url(source, saved, public_url), saved.headers, saved.body
    )
    steps: list[Step] = [("message", list(_message_words(saved)))]
    if source.signature.signs_url:
        steps.append(("address", [request.url.partition("?")[0]]))
    refusal = source.verify(request, at)
    steps += _signature_steps(source, request, refusal, at)
    refused = "401 unauthorized" if refusal else ""
    reading = Reading((), 0)
    try:
        _check_request(source, saved)
    except GatewayError as error:  # the gateway looks at this first
        refused = _refused(error)
        steps.append(("request", [error.detail]))
    try:
        reading = source.read(saved.body, saved.headers, at)
        steps += _event_steps(source, saved, reading)
    except GatewayError as error:
        refused = refused or _refused(error)
        steps.append(("body", [error.detail]))
    result = Result.REFUSED if refused else _result(reading)
    steps.append(("result", [f"{result}: {refused}" if refused else result]))
    return Verdict(steps, result)


def _result(reading: Reading) -> Result:
    """What becomes of an accepted message."""
    if not reading.withdrawals:
        return Result.IGNORED
    is_usable = any(one.phone_number.digits for one in reading.withdrawals)
    return Result.ACCEPTED if is_usable else Result.OPTS_NOBODY_OUT


def _refused(error: GatewayError) -> str:
    return f"{ERRORS[error.code].status} {error.code}"


def _url(source: WebhookSource, saved: SavedMessage, public_url: str | None) -> str:
    """The address the sender used. The target may already begin with PUBLIC_URL's path."""
    start = public_url or ""
    target = saved.target or f"/v1/webhooks/{source.name}"
    return start + target.removeprefix(urlsplit(start).path)


def _check_request(source: WebhookSource, saved: SavedMessage) -> None:
    """Raises GatewayError where the gateway would not even look at the signature."""
    if saved.method != "POST":
        what = f"The method is {saved.method}; webhooks are sent with POST."
        raise GatewayError(ErrorCode.METHOD_NOT_ALLOWED, what)
    content_type = saved.headers.get("content-type", "")
    encoding = saved.headers.get("content-encoding", "")
    check_media_type(content_type, encoding, source.body, may_lack_type=True)
    if len(saved.body) > LARGEST_WEBHOOK:
        raise too_large(LARGEST_WEBHOOK)


def _message_words(saved: SavedMessage) -> Iterator[str]:
    yield f"{len(saved.headers)} headers, {len(saved.body)} bytes of body"
    length = saved.headers.get("content-length", "")
    if length.isdecimal() and int(length[:9]) != len(saved.body):
        yield (
            f"Content-Length says {length[:9]} bytes, so this is not the body that was sent; "
            "did an editor add a line end?"
        )


def _signature_steps(
    source: WebhookSource, request: SignedRequest, refusal: Refusal | None, at: datetime
) -> list[Step]:
    words = f"{refusal.replace('_', ' ')}: {advice(source, refusal, at)}" if refusal else ""
    if refusal and refusal not in _OF_TIME:
        fits = explain(source.signature, request, source.secrets, at)
        return [("signature", [words, f"good if {fits}"] if fits else [words])]
    steps: list[Step] = [("signature", ["good"])]
    timestamp = source.signature.timestamp
    if timestamp:
        steps.append(("timestamp", list(_time_words(timestamp, request, words, at))))
    return steps


def _time_words(
    timestamp: Timestamp, request: SignedRequest, refused: str, at: datetime
) -> Iterator[str]:
    sent_at = read_timestamp(request.headers[timestamp.header.lower()], timestamp.format)
    age = timestamp.age(request.headers, at)
    if refused:
        yield refused
        if sent_at:
            yield f"only the time is wrong; use --at {sent_at.isoformat()} to judge it as of then"
    elif age is not None and age > timestamp.tolerance:
        yield f"late at {at.isoformat()}, but accepted: its opt-outs have ids"
    else:
        yield f"good at {at.isoformat()}"


def _event_steps(source: WebhookSource, saved: SavedMessage, reading: Reading) -> list[Step]:
    """Raises GatewayError if the body is unreadable."""
    document = source.parse(saved.body)
    events = source.find_events(document)
    found = [f"{len(events)} found, {reading.ignored} ignored"]
    if source.events and _failure(source.events, document):
        found.append(f"the events expression {_failure(source.events, document)}")
    steps: list[Step] = [("events", found)]
    for number, event in enumerate(events, 1):
        steps.append((f"event {number}", list(_event_words(source, event))))
    steps.append(("on record", list(_record_words(source, saved, reading.withdrawals))))
    return steps


def _event_words(source: WebhookSource, event: object) -> Iterator[str]:
    failure = _failure(source.opt_out, event)
    if failure:
        yield f"ignored: the opt_out expression {failure}"
    elif not source.is_opt_out(event):
        yield "ignored: not an opt-out"
        for path, value in source.opt_out.fields(event):
            yield f"  {path} is {_value_words(value)}"
    else:
        for number in source.numbers(event):
            yield f"opt-out of {_number_words(number)}"


def _value_words(value: object) -> str:
    """A field of an event for a person: short, without control characters or full numbers."""
    match value:
        case None:
            return "missing"
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
        case _:
            shown = mask_phone_numbers(repr(value) if isinstance(value, str) else json.dumps(value))
            return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


def _record_words(
    source: WebhookSource, saved: SavedMessage, withdrawals: Sequence[Withdrawal]
) -> Iterator[str]:
    for withdrawal in withdrawals:
        whose = _number_words(withdrawal.phone_number)
        status = "rejected, for a person to look at" if withdrawal.phone_number.flaw else "pending"
        asked_at = withdrawal.requested_at
        when = asked_at.isoformat() if asked_at else "when it arrives"
        yield f"{status}: {whose}, store {source.store}, requested {when}"
        yield f"  a repeat is recognized by {_repeat_words(source, saved, withdrawal)}"
    if not withdrawals:
        yield "nothing"


def _number_words(number: PhoneNumber) -> str:
    return f"******{number.digits[-4:]}" if number.digits else f"a number that {number.flaw}"


def _repeat_words(source: WebhookSource, saved: SavedMessage, withdrawal: Withdrawal) -> str:
    header = source.delivery_id_header
    if withdrawal.expires:
        is_lacking = source.delivery_id or header
        return f"the body, for 24 hours{'; the message has no id' if is_lacking else ''}"
    if header and saved.headers.get(header.lower(), "").strip():
        return f"the header {header}"
    return "the event's delivery_id"


def _failure(expression: Expression, value: object) -> str | None:
    try:
        expression.search(value)
    except ExpressionFailed as error:
        return str(error)
    return None
