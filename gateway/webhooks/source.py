"""Webhook sources: a verified body to withdrawals of consent.

A source is data. ``read`` goes through small steps, ``parse``, ``find_events``, ``is_opt_out`` and
``numbers``, that a person setting a source up can be shown one by one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gateway.bodies import BodyFormat, read_form, read_json
from gateway.errors import ErrorCode, GatewayError
from gateway.phone_number import PhoneNumber, read_phone_number, storable
from gateway.timestamps import read_event_time
from gateway.webhooks.expressions import Expression, ExpressionFailed
from gateway.webhooks.signatures import Refusal, Signature, SignedRequest, verify


class Answer(StrEnum):
    """What a message is answered with."""

    JSON = "json"
    TWIML = "twiml"


@dataclass(frozen=True)
class Withdrawal:
    """A person's request to get no more texts, as an event reported it.

    ``delivery_id`` is the sender's own id of the message or the event, fit to be stored. A repeat
    gives the same ``repeat_key``. Where there is no id the key is made from the body, and
    ``expires``: after 24 hours the same body is a new request.
    """

    phone_number: PhoneNumber
    requested_at: datetime | None
    delivery_id: str | None
    repeat_key: str
    expires: bool


@dataclass(frozen=True)
class Reading:
    """What a message contains: withdrawals, each once, and how many events are not opt-outs."""

    withdrawals: tuple[Withdrawal, ...]
    ignored: int


@dataclass(frozen=True)
class WebhookSource:
    """A configured sender: how it signs, and what in its messages withdraws consent.

    ``warnings`` say what is odd about its secrets, without showing them.
    """

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
    late: float
    secret_env: tuple[str, ...]
    warnings: tuple[str, ...]
    secrets: tuple[bytes, ...] = field(repr=False)

    def verify(self, request: SignedRequest, now: datetime) -> Refusal | None:
        """None if the message is authentic and not too old, else why it is refused; never raises.

        A sender that repeats a message for days under its first timestamp is heard for ``late``
        seconds, if its messages have ids, by which a repeat is recognized.
        """
        refusal = verify(self.signature, request, self.secrets, now)
        timestamp = self.signature.timestamp
        if timestamp is None or refusal is not Refusal.STALE_TIMESTAMP:
            return refusal
        age = timestamp.age(request.headers, now)
        is_late = age is not None and age <= self.late and self._has_ids(request)
        return None if is_late else refusal

    def read(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Reading:
        """What a verified message withdraws; header names are in lower case.

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
            message = self._identity(event, position, headers, body_hash)
            for place, number in enumerate(self.numbers(event)):
                withdrawal = self._withdrawal(number, place, requested_at, message)
                found.setdefault(withdrawal.repeat_key, withdrawal)
        return Reading(tuple(found.values()), ignored)

    def parse(self, body: bytes) -> object:
        """The body's value; of a form its fields, of a name given twice the first."""
        if self.body is BodyFormat.FORM:
            try:
                return dict(reversed(read_form(body)))  # the last to be set is the first that came
            except ValueError:
                detail = "The body is not a UTF-8 form of at most 1000 fields."
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
            why = "cannot be found: the source's phone_numbers expression fails on this event"
            return [PhoneNumber("", None, why)]
        values = found if isinstance(found, list) else [found]
        return [read_phone_number(value) for value in values or [None]]

    def _has_ids(self, request: SignedRequest) -> bool:
        """Whether all opt-outs of a message have ids; where there are none, all events."""
        try:
            events = self.find_events(self.parse(request.body))
        except GatewayError:
            return False
        events = [event for event in events if self.is_opt_out(event)] or events
        kinds = {self._identity(event, 0, request.headers, "").kind for event in events}
        return bool(kinds) and "body" not in kinds

    def _identity(
        self, event: object, position: int, headers: Mapping[str, str], body_hash: str
    ) -> "_Identity":
        if self.delivery_id_header is not None:
            header = headers.get(self.delivery_id_header.lower(), "").strip()
            if header:
                return _Identity("header", header, position)
        event_id = _search(self.delivery_id, event)
        if isinstance(event_id, int) and not isinstance(event_id, bool):
            with suppress(ValueError):  # an expression can make one that Python does not write
                event_id = str(event_id)
        if isinstance(event_id, str) and event_id.strip():
            return _Identity("event", event_id, None)
        return _Identity("body", body_hash, position)

    def _withdrawal(
        self,
        number: PhoneNumber,
        place: int,
        requested_at: datetime | None,
        message: "_Identity",
    ) -> Withdrawal:
        whose: object = number.digits
        if whose is None:  # two of them without a usable number are two people to look for
            whose = [number.received, message.position, place]
        parts = [self.name, message.kind, message.id, whose, self.store]
        return Withdrawal(
            phone_number=number,
            requested_at=requested_at,
            delivery_id=None if message.kind == "body" else storable(message.id),
            repeat_key=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
            expires=message.kind == "body",
        )


@dataclass(frozen=True)
class _Identity:
    """What a repeat has in common with the first; ``position`` unless the id is the event's own."""

    kind: str
    id: str
    position: int | None


def _search(expression: Expression | None, event: object) -> object:
    """What an optional expression finds; None if it fails, since the event is one without it."""
    try:
        return expression.search(event) if expression else None
    except ExpressionFailed:
        return None
