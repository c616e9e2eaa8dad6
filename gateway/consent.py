"""The values that every part of the gateway passes round: frozen, with aware times in UTC."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.errors import CrmTextWords, Failure
from gateway.phone_number import PhoneNumber


class Status(StrEnum):
    """Where an opt-out stands; see the table in the README."""

    PENDING = "pending"
    OPTED_OUT = "opted_out"
    REJECTED = "rejected"
    FAILED = "failed"


class Means(StrEnum):
    """How a person asked to get no more texts."""

    PHONE_CALL = "phone_call"
    VOICEMAIL = "voicemail"
    WEB_FORM = "web_form"
    EMAIL = "email"
    MAIL = "mail"
    IN_PERSON = "in_person"
    SOCIAL_MEDIA = "social_media"
    KEYWORD_REPLY = "keyword_reply"
    OTHER = "other"


class Order(StrEnum):
    """In which order opt-outs are listed, by when they were created."""

    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True)
class Customer:
    """A customer as CRM Text describes them; None for what it left out or left empty.

    ``status`` is new, opted_in, pending or opted_out, else CRM Text's own text.
    """

    id: str | None
    name: str | None
    status: str | None
    store_id: str | None
    phone_number: str | None
    updated_at: datetime | None


@dataclass(frozen=True)
class Outcome:
    """What one call to CRM Text came to; without ``failure`` the customer is opted out."""

    failure: Failure | None
    customer: Customer | None = None
    already_opted_out: bool = False
    http_status: int | None = None
    crmtext: CrmTextWords | None = None

    @property
    def name(self) -> str:
        """``opted_out`` or the error's code, as attempts and metrics have it."""
        return self.failure.code if self.failure else Status.OPTED_OUT


@dataclass(frozen=True)
class LookUp:
    """What CRM Text says about a customer; ``customer`` is not None unless there is a ``failure``.

    ``customer.status`` may be any: to be found is not to be opted out.
    """

    failure: Failure | None
    customer: Customer | None = None
    http_status: int | None = None
    crmtext: CrmTextWords | None = None


@dataclass(frozen=True)
class OptOutRequest:
    """A customer's request as it reached the gateway, checked but not yet on record.

    ``source`` is ``api:NAME`` or ``webhook:NAME``, ``delivery_id`` a webhook sender's own id. A
    webhook's ``phone_number`` may be unusable.
    """

    phone_number: PhoneNumber
    store: str
    source: str
    request_id: str
    reference: str | None = None
    reason: str | None = None
    means: str | None = None
    requested_at: datetime | None = None
    delivery_id: str | None = None


@dataclass(frozen=True)
class OptOut:
    """An opt-out as the ledger has it."""

    id: str
    status: Status | str  # a text of its own where a newer version wrote it
    phone_number: str | None
    store: str
    reference: str | None
    reason: str | None
    means: str | None
    source: str
    customer: Customer | None
    already_opted_out: bool
    attempts: int
    error: Failure | None
    requested_at: datetime
    created_at: datetime
    opted_out_at: datetime | None
    next_attempt_at: datetime | None
    phone_number_received: str | None
    request_id: str | None
    delivery_id: str | None


@dataclass(frozen=True)
class Attempt:
    """One call to CRM Text; ``outcome`` is None while it runs, and forever if its process died."""

    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    http_status: int | None
    crmtext: CrmTextWords | None
