"""Webhook sources: configuration to checked sources, a verified body to withdrawals of consent.

A source is data. ``read`` goes through small steps, ``parse``, ``find_events``, ``is_opt_out`` and
``numbers``, that a person setting a source up can be shown one by one.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from gateway.bodies import read_form, read_json
from gateway.errors import ConfigurationError, ErrorCode, GatewayError
from gateway.phone_number import PhoneNumber, read_phone_number
from gateway.timestamps import read_event_time
from gateway.webhooks.config import (
    Answer,
    BodyFormat,
    override,
    read_delivery_id,
    read_recipes,
    read_secrets,
    read_signature,
    read_store,
)
from gateway.webhooks.expressions import Expression, ExpressionFailed
from gateway.webhooks.signatures import Refusal, Scheme, Signature, SignedRequest, verify
from gateway.webhooks.toml_table import Table, read_toml, shown

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_UNKNOWN_RECIPE: Mapping[str, object] = {
    "opt_out": "@",
    "phone_numbers": "@",
    "signature": {"scheme": "hmac", "header": "-"},
}


@dataclass(frozen=True)
class Withdrawal:
    """Somebody's wish to get no more messages, as an event told of it.

    Of a repeated delivery it has the same ``delivery_key``. If that was made of the body, for want
    of a delivery id, it ``expires``: after 24 hours the same body is a new wish.
    """

    phone_number: PhoneNumber
    requested_at: datetime | None
    delivery_key: str
    expires: bool


@dataclass(frozen=True)
class Reading:
    """What a delivery holds: withdrawals, each once, and how many events are no opt-out."""

    withdrawals: tuple[Withdrawal, ...]
    ignored: int


@dataclass(frozen=True)
class WebhookSource:
    """A configured sender: how it signs, and what in its deliveries withdraws consent."""

    name: str
    store: str
    recipe: str | None
    answer: Answer
    body: BodyFormat
    takes_list: bool
    events: Expression | None
    opt_out: Expression
    phone_numbers: Expression
    delivery_id: Expression | None
    delivery_id_header: str | None
    requested_at: Expression | None
    signature: Signature
    secret_env: tuple[str, ...]
    secrets: tuple[bytes, ...] = field(repr=False)

    def verify(self, request: SignedRequest, now: datetime) -> Refusal | None:
        """None if the delivery is authentic, else why it is not believed; never raises."""
        return verify(self.signature, request, self.secrets, now)

    def read(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Reading:
        """What a verified delivery withdraws; header names are in lower case.

        Raises GatewayError: invalid_json or, of a form, invalid_request if the body is unreadable,
        invalid_request if it is a list that this source does not allow.
        """
        found: dict[str, Withdrawal] = {}
        ignored = 0
        body_hash = hashlib.sha256(body).hexdigest()
        for position, event in enumerate(self.find_events(self.parse(body))):
            if not self.is_opt_out(event):
                ignored += 1
                continue
            requested_at = read_event_time(_search(self.requested_at, event), now)
            delivery = self._delivery(event, position, headers, body_hash)
            for place, number in enumerate(self.numbers(event)):
                withdrawal = self._withdrawal(number, place, requested_at, delivery)
                found.setdefault(withdrawal.delivery_key, withdrawal)
        return Reading(tuple(found.values()), ignored)

    def parse(self, body: bytes) -> object:
        """The body's value; of a form its fields, of a name given twice the first."""
        if self.body is BodyFormat.FORM:
            try:
                return dict(reversed(read_form(body)))  # the last to be set is the first that came
            except ValueError:
                detail = "The body is no form of up to 1000 fields in UTF-8."
                raise GatewayError(ErrorCode.INVALID_REQUEST, detail) from None
        document = read_json(body)
        if isinstance(document, list) and not self.takes_list:
            detail = "The body is a list; this source sends one event at a time."
            raise GatewayError(ErrorCode.INVALID_REQUEST, detail)
        return document

    def find_events(self, document: object) -> Sequence[object]:
        """The events of a parsed body; an expression that fails leaves one nothing is known of."""
        events = document
        if self.events is not None:
            try:
                events = self.events.search(document)
            except ExpressionFailed:
                return [None]
            if events is None:
                return []
        return events if isinstance(events, list) else [events]

    def is_opt_out(self, event: object) -> bool:
        """Whether the event withdraws consent; no, if the expression fails on it."""
        try:
            return self.opt_out.holds(event)
        except ExpressionFailed:
            return False

    def numbers(self, event: object) -> Sequence[PhoneNumber]:
        """The numbers of an opt-out: at least one, if only to say what is wrong with it."""
        try:
            found = self.phone_numbers.search(event)
        except ExpressionFailed:
            why = "cannot be looked for: the source's phone_numbers expression fails on this event"
            return [PhoneNumber("", None, why)]
        values = found if isinstance(found, list) else [found]
        return [read_phone_number(value) for value in values or [None]]

    def _delivery(
        self, event: object, position: int, headers: Mapping[str, str], body_hash: str
    ) -> "_Delivery":
        if self.delivery_id_header is not None:
            header = headers.get(self.delivery_id_header.lower(), "").strip()
            if header:
                return _Delivery("header", header, position)
        event_id = _search(self.delivery_id, event)
        if isinstance(event_id, int) and not isinstance(event_id, bool):
            with suppress(ValueError):  # an expression can make one that Python does not write
                event_id = str(event_id)
        if isinstance(event_id, str) and event_id.strip():
            return _Delivery("event", event_id, None)
        return _Delivery("body", body_hash, position)

    def _withdrawal(
        self,
        number: PhoneNumber,
        place: int,
        requested_at: datetime | None,
        delivery: "_Delivery",
    ) -> Withdrawal:
        whose: object = number.digits
        if whose is None:  # two of them without a usable number are two people to look for
            whose = [number.received, delivery.position, place]
        parts = [self.name, delivery.kind, delivery.id, whose, self.store]
        return Withdrawal(
            phone_number=number,
            requested_at=requested_at,
            delivery_key=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
            expires=delivery.kind == "body",
        )


@dataclass(frozen=True)
class _Delivery:
    """What a repeat has in common with its first; ``position`` where it is of the whole body."""

    kind: str
    id: str
    position: int | None


def read_webhook_sources(
    text: str, *, secrets: Mapping[str, str], stores: Sequence[str], public_url: str | None
) -> Mapping[str, WebhookSource]:
    """The sources of a WEBHOOK_SOURCES text by name. ``secrets`` is the environment.

    ``stores`` are keywords in upper case, the default store first. Raises ConfigurationError with
    one line for each fault, which names source and key and never shows a secret.
    """
    faults: list[str] = []
    sources: dict[str, WebhookSource] = {}
    recipes = read_recipes()
    for name, entries in read_toml(text).items():
        if not isinstance(entries, dict):
            faults.append(f"{shown(name)}: is no table; each source is one, [{shown(name)}]")
            continue
        if not _NAME.fullmatch(name):
            faults.append(f"[{shown(name)}]: a name has only letters, digits, - and _ of ASCII")
        merged = override(_recipe(name, entries, recipes, faults), entries)
        table = Table(merged, f"[{shown(name)}] ", faults)
        source = sources[name] = _read_source(name, table, secrets, stores)
        if source.signature.signs_url and not public_url:
            table.fault("signature", "signs the address, so PUBLIC_URL has to be set")
    if faults:
        raise ConfigurationError(faults)
    return sources


def _recipe(
    name: str,
    entries: Mapping[str, object],
    recipes: Mapping[str, Mapping[str, object]],
    faults: list[str],
) -> Mapping[str, object]:
    """What the source builds on; if there is no such recipe, one that lets the rest be checked."""
    if "recipe" not in entries:
        return {}
    recipe = entries["recipe"]
    if isinstance(recipe, str) and recipe in recipes:
        return recipes[recipe]
    faults.append(f"[{shown(name)}] recipe: must be one of {', '.join(recipes)}")
    return _UNKNOWN_RECIPE


def _read_source(
    name: str, table: Table, environment: Mapping[str, str], stores: Sequence[str]
) -> WebhookSource:
    recipe = table.get("recipe")
    signature, secret_format = read_signature(table)
    secret_env, secrets = read_secrets(table, environment, secret_format)
    delivery_id, delivery_id_header = read_delivery_id(table)
    source = WebhookSource(
        name=name,
        store=read_store(table, stores),
        recipe=recipe if isinstance(recipe, str) else None,
        answer=table.choice("answer", Answer, Answer.JSON),
        body=table.choice("body", BodyFormat, BodyFormat.JSON),
        takes_list=table.flag("list", default=True),
        events=table.expression("events"),
        opt_out=table.required_expression("opt_out"),
        phone_numbers=table.required_expression("phone_numbers"),
        delivery_id=delivery_id,
        delivery_id_header=delivery_id_header,
        requested_at=table.expression("requested_at"),
        signature=signature,
        secret_env=secret_env,
        secrets=secrets,
    )
    if signature.scheme is Scheme.TWILIO and source.body is not BodyFormat.FORM:
        table.fault("body", "must be form: Twilio's signature is one of a form's fields")
    table.refuse_unknown_keys()
    return source


def _search(expression: Expression | None, event: object) -> object:
    """What an optional expression finds; None if it fails, since the event is one without it."""
    try:
        return expression.search(event) if expression else None
    except ExpressionFailed:
        return None
