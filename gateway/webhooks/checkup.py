"""For whoever sets a webhook source up: what it expects, and what it would do with a message.

Nothing said here contains a secret or a full number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from gateway.bodies import BodyFormat, check_media_type, too_large
from gateway.errors import ERRORS, ErrorCode, GatewayError
from gateway.phone_number import PhoneNumber
from gateway.timestamps import read_timestamp
from gateway.webhooks.expressions import Expression, ExpressionFailed
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.saved_message import SavedMessage
from gateway.webhooks.signatures import Refusal, Scheme, Signature, SignedRequest
from gateway.webhooks.source import LARGEST_BODY, WebhookSource, Withdrawal

# A topic, and the lines about it.
Step = tuple[str, Sequence[str]]

# What each refusal means, and where to look; the names are filled in from the source.
ADVICE: Mapping[Refusal, str] = {
    Refusal.MISSING_SIGNATURE: "the {header} header is missing; does the sender sign?",
    Refusal.MALFORMED_SIGNATURE: "{header} does not have the expected form: {form}",
    Refusal.WRONG_SIGNATURE: (
        "the sender uses a different secret than {secrets}, or the file is not byte for byte what "
        "was sent, or the sender signs something other than: {signed}"
    ),
    Refusal.MISSING_ID: "the {id_header} header is missing; it is signed too",
    Refusal.MISSING_TIMESTAMP: "the {time_header} header is missing",
    Refusal.MALFORMED_TIMESTAMP: "{time_header} is not a time in the format {time_format}",
    Refusal.STALE_TIMESTAMP: (
        "it was sent too long before {at}: at most {tolerance:g} s, or {late} for a message whose "
        "opt-outs have ids"
    ),
    Refusal.FUTURE_TIMESTAMP: "it was sent more than {tolerance:g} s after {at}",
}
# The time is judged last, so the signature itself is good.
_OF_TIME = (Refusal.MALFORMED_TIMESTAMP, Refusal.STALE_TIMESTAMP, Refusal.FUTURE_TIMESTAMP)


@dataclass(frozen=True)
class Verdict:
    """What the gateway would do with a message, step by step, and whether it would accept it."""

    steps: Sequence[Step]
    is_accepted: bool


def describe(source: WebhookSource, public_url: str | None) -> Sequence[Step]:
    """What a source expects and does; of its secrets only the names."""
    signature = source.signature
    is_list = ", or a list of events" if source.takes_list else ", never a list"
    found = source.events and ["the elements of", *_lines(source.events)]
    return [
        ("address", [f"POST {public_url or ''}/v1/webhooks/{source.name}"]),
        ("recipe", _recipe_words(source)),
        ("body", ["a form" if source.body is BodyFormat.FORM else f"JSON{is_list}"]),
        ("signature", [f"{signature.header}: {_form(signature)}"]),
        ("signed", [_signed(signature)]),
        ("timestamp", _timestamp_words(source)),
        ("secrets", [", ".join(source.secret_env)]),
        ("events", found or ["the body, or each element of a list"]),
        ("opt-out", _lines(source.opt_out)),
        ("phone numbers", _lines(source.phone_numbers)),
        ("delivery id", _delivery_id_words(source)),
        ("requested at", _lines(source.requested_at) or ["when it arrives"]),
        ("store", [source.store]),
        ("answer", [source.answer]),
    ]


def judge(
    source: WebhookSource, saved: SavedMessage, public_url: str | None, at: datetime
) -> Verdict:
    """Goes through a message as if it came ``at`` that moment. Records nothing."""
    url = _url(source, saved, public_url)
    steps: list[Step] = [("message", list(_message_words(saved)))]
    if source.signature.signs_url:
        steps.append(("address", [url.partition("?")[0]]))
    refusal = source.verify(SignedRequest(saved.method, url, saved.headers, saved.body), at)
    steps += _signature_steps(source, saved, refusal, at)
    result = "401 unauthorized" if refusal else ""
    try:
        _check_request(source, saved)
    except GatewayError as error:  # the gateway looks at this first
        result = _refused(error)
        steps.append(("request", [error.detail]))
    try:
        steps += _event_steps(source, saved, at)
    except GatewayError as error:
        result = result or _refused(error)
        steps.append(("body", [error.detail]))
    steps.append(("result", [f"refused: {result}" if result else "accepted"]))
    return Verdict(steps, is_accepted=not result)


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
    if len(saved.body) > LARGEST_BODY:
        raise too_large(LARGEST_BODY)


def _message_words(saved: SavedMessage) -> Iterator[str]:
    yield f"{len(saved.headers)} headers, {len(saved.body)} bytes of body"
    length = saved.headers.get("content-length", "")
    if length.isdecimal() and int(length[:9]) != len(saved.body):
        yield (
            f"Content-Length says {length[:9]} bytes, so this is not the body that was sent; "
            "did an editor add a line end?"
        )


def _signature_steps(
    source: WebhookSource, saved: SavedMessage, refusal: Refusal | None, at: datetime
) -> list[Step]:
    signature, timestamp = source.signature, source.signature.timestamp
    what_to_do = ""
    if refusal:
        what_to_do = ADVICE[refusal].format(
            header=signature.header,
            form=_form(signature),
            secrets=" or ".join(source.secret_env),
            signed=_signed(signature),
            id_header=signature.id_header,
            time_header=timestamp and timestamp.header,
            time_format=timestamp and timestamp.format,
            tolerance=timestamp.tolerance if timestamp else 0,
            late=_duration(source.late),
            at=at.isoformat(),
        )
        what_to_do = f"{refusal.replace('_', ' ')}: {what_to_do}"
    if refusal and refusal not in _OF_TIME:
        return [("signature", [what_to_do])]
    steps: list[Step] = [("signature", ["good"])]
    if timestamp:
        sent_at = read_timestamp(saved.headers[timestamp.header.lower()], timestamp.format)
        if refusal and sent_at:
            hint = f"only the time is wrong; use --at {sent_at.isoformat()} to judge it as of then"
            steps.append(("timestamp", [what_to_do, hint]))
        else:
            steps.append(("timestamp", [what_to_do or f"good at {at.isoformat()}"]))
    return steps


def _event_steps(source: WebhookSource, saved: SavedMessage, at: datetime) -> list[Step]:
    """Raises GatewayError if the body is unreadable."""
    document = source.parse(saved.body)
    reading = source.read(saved.body, saved.headers, at)
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
    else:
        for number in source.numbers(event):
            yield f"opt-out of {_number_words(number)}"


def _record_words(
    source: WebhookSource, saved: SavedMessage, withdrawals: Sequence[Withdrawal]
) -> Iterator[str]:
    for withdrawal in withdrawals:
        whose = _number_words(withdrawal.phone_number)
        status = "rejected, for a person to look at" if withdrawal.phone_number.fault else "pending"
        asked_at = withdrawal.requested_at
        when = asked_at.isoformat() if asked_at else "when it arrives"
        yield f"{status}: {whose}, store {source.store}, requested {when}"
        yield f"  a repeat is recognized by {_repeat_words(source, saved, withdrawal)}"
    if not withdrawals:
        yield "nothing"


def _number_words(number: PhoneNumber) -> str:
    return f"******{number.digits[-4:]}" if number.digits else f"a number that {number.fault}"


def _repeat_words(source: WebhookSource, saved: SavedMessage, withdrawal: Withdrawal) -> str:
    header = source.delivery_id_header
    if withdrawal.expires:
        is_lacking = source.delivery_id or header
        return f"the body, for 24 hours{'; the message has no id' if is_lacking else ''}"
    if header and saved.headers.get(header.lower(), "").strip():
        return f"the header {header}"
    return "the event's delivery_id"


def _recipe_words(source: WebhookSource) -> Sequence[str]:
    if source.recipe is None:
        return ["none, by hand"]
    return [source.recipe, read_recipes()[source.recipe].documentation]


def _delivery_id_words(source: WebhookSource) -> Sequence[str]:
    if source.delivery_id_header:
        return [f"the header {source.delivery_id_header}"]
    return _lines(source.delivery_id) or ["SHA-256 of the body, for 24 hours"]


def _form(signature: Signature) -> str:
    after = f" after {signature.prefix!r}" if signature.prefix else ""
    several = f", one of several with {signature.separator!r} between them"
    if signature.scheme is Scheme.TOKEN:
        form = f"the secret{after}"
    else:
        form = f"HMAC-{signature.hash.upper()} in {signature.encoding}{after}"
    return form + (several if signature.separator else "")


def _signed(signature: Signature) -> str:
    match signature.scheme:
        case Scheme.TOKEN:
            return "nothing; the secret itself is sent"
        case Scheme.TWILIO:
            return "the address, then the form's fields sorted by name"
        case Scheme.HMAC:
            ids = f", {{id}} being the header {signature.id_header}"
            return signature.signed + (ids if "{id}" in signature.placeholders else "")


def _timestamp_words(source: WebhookSource) -> Sequence[str]:
    timestamp = source.signature.timestamp
    if timestamp is None:
        return ["none"]
    words = [f"{timestamp.header}: {timestamp.format}, at most {timestamp.tolerance:g} s off"]
    if source.late > timestamp.tolerance:
        words.append(f"a message whose opt-outs have ids may be {_duration(source.late)} old")
    return words


def _duration(seconds: float) -> str:
    days, rest = divmod(seconds, 24 * 3600)
    return f"{seconds:g} s" if rest or not days else f"{days:g} day{'s' if days > 1 else ''}"


def _lines(expression: Expression | None) -> list[str]:
    return expression.text.strip().splitlines() if expression else []


def _failure(expression: Expression, value: object) -> str | None:
    try:
        expression.search(value)
    except ExpressionFailed as error:
        return str(error)
    return None
