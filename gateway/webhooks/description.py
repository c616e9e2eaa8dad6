"""A webhook source in words: what it expects, and what each refusal means for it.

Nothing said here contains a secret.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.bodies import BodyFormat
from gateway.webhooks.expressions import Expression
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.signatures import Refusal, Scheme, Signature
from gateway.webhooks.source import WebhookSource

# A topic, and the lines about it.
Step = tuple[str, Sequence[str]]

# What each refusal means, and what to do; the names are filled in from the source.
ADVICE: Mapping[Refusal, str] = {
    Refusal.MISSING_SIGNATURE: (
        "the {header} header is missing; make the sender sign, and check that no proxy drops it"
    ),
    Refusal.MALFORMED_SIGNATURE: (
        "{header} does not have the expected form: {form}; check the source's 'signature'"
    ),
    Refusal.WRONG_SIGNATURE: (
        "compare {secrets} with the secret at the sender; if they are the same, the sender signs "
        "something other than: {signed}, or the body is not byte for byte what was sent"
    ),
    Refusal.MISSING_ID: (
        "the {id_header} header is missing, which is signed too; check 'signature.id_header'"
    ),
    Refusal.MISSING_TIMESTAMP: (
        "the {time_header} header is missing; check 'signature.timestamp.header'"
    ),
    Refusal.MALFORMED_TIMESTAMP: (
        "{time_header} is not a time in the format {time_format}; check "
        "'signature.timestamp.format'"
    ),
    Refusal.STALE_TIMESTAMP: (
        "{time_header} is too long before {at}: at most {tolerance:g} s, or {late} for a message "
        "whose opt-outs have ids; check the clocks of the sender and of this machine, and whether "
        "the sender repeats old messages"
    ),
    Refusal.FUTURE_TIMESTAMP: (
        "{time_header} is more than {tolerance:g} s after {at}; check the clocks of the sender and "
        "of this machine"
    ),
}


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
        ("secrets", [", ".join(source.secret_env), *source.warnings]),
        ("events", found or ["the body, or each element of a list"]),
        ("opt-out", _lines(source.opt_out)),
        ("phone numbers", _lines(source.phone_numbers)),
        ("delivery id", _delivery_id_words(source)),
        ("requested at", _lines(source.requested_at) or ["when it arrives"]),
        ("store", [source.store]),
        ("answer", [source.answer]),
    ]


def advice(source: WebhookSource, refusal: Refusal, at: datetime) -> str:
    """What a refusal means and where to look, for whoever runs the gateway."""
    signature, timestamp = source.signature, source.signature.timestamp
    return ADVICE[refusal].format(
        header=signature.header,
        form=_form(signature),
        secrets=" or ".join(source.secret_env),
        signed=_signed(signature),
        id_header=signature.id_header,
        time_header=timestamp and timestamp.header,
        time_format=timestamp and timestamp.format,
        tolerance=timestamp.tolerance if timestamp else 0,
        late=_duration(source.late),
        at=at.isoformat(timespec="seconds"),
    )


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
