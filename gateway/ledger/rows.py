"""Between the ledger's rows and the values that everybody else uses: transitions and reading."""

from dataclasses import asdict, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Row

from gateway.consent import Attempt, Customer, OptOut, OptOutRequest, Status
from gateway.errors import ERRORS, CrmTextWords, ErrorCode, Failure

Values = dict[str, Any]
# What has the columns of a table as attributes: read from it, or just written to it.
LedgerRow = Row[Any] | SimpleNamespace


# The transitions of a row. It is received once, then due, claimed for an attempt, due again or
# ended; a retry makes an ended one due.


def received(opt_out_id: str, now: datetime, request: OptOutRequest) -> Values:
    """What is known of an opt-out when it comes in, and never changes."""
    return {
        "id": opt_out_id,
        "phone_number": request.phone_number.digits,
        "phone_number_received": request.phone_number.received,
        "store": request.store,
        "reference": request.reference,
        "reason": request.reason,
        "means": request.means,
        "source": request.source,
        "request_id": request.request_id,
        "delivery_id": request.delivery_id,
        "requested_at": request.requested_at or now,
        "created_at": now,
        "attempts": 0,
    }


def due(now: datetime, give_up_at: datetime) -> Values:
    """Waits for its first attempt; so does one that is retried."""
    return _pending(now, None) | {"give_up_at": give_up_at, "failures": 0}


def claimed(lease_ends_at: datetime, claim: str) -> Values:
    """Being sent by the claim's holder, or due again when the lease ends."""
    return {"next_attempt_at": lease_ends_at, "claim": claim}


def put_back(now: datetime) -> Values:
    """Is due again at once: the attempt that it was claimed for was not made."""
    return {"next_attempt_at": now, "claim": None}


def ended(status: str, failure: Failure | None = None, **outcome: Any) -> Values:  # noqa: ANN401
    """No automatic retry."""
    return _NOTHING_YET | _failure_columns(failure) | _ENDED | {"status": status} | outcome


def after_attempt(opt_out: OptOut) -> Values:
    """The columns that an attempt changes. Whoever writes them gives up the claim."""
    if opt_out.next_attempt_at:
        return _pending(opt_out.next_attempt_at, opt_out.error)
    customer = opt_out.customer and asdict(opt_out.customer)
    if customer and customer["updated_at"]:
        customer["updated_at"] = customer["updated_at"].isoformat()
    return ended(
        opt_out.status,
        opt_out.error,
        opted_out_at=opt_out.opted_out_at,
        already_opted_out=opt_out.already_opted_out,
        customer=customer,
    )


def in_ascii(values: Values) -> Values:
    """The same values, with a question mark for each character that is not ASCII."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return in_ascii(value)
        return value.encode("ascii", "replace").decode() if isinstance(value, str) else value

    return {name: plain(value) for name, value in values.items()}


def read_opt_out(row: LedgerRow) -> OptOut:
    failure = None
    if row.error_code is not None:
        # A newer version that shares the ledger during an upgrade may know more codes.
        code = ErrorCode(row.error_code) if row.error_code in ERRORS else ErrorCode.INTERNAL_ERROR
        failure = Failure(code, row.error_detail, _read_words(row))
    customer = row.customer and Customer(**row.customer)
    if customer and customer.updated_at:
        customer = replace(customer, updated_at=datetime.fromisoformat(row.customer["updated_at"]))
    return OptOut(
        id=row.id,
        # A newer version that shares the ledger during an upgrade may know more statuses.
        status=Status(row.status) if row.status in list(Status) else row.status,
        phone_number=row.phone_number,
        store=row.store,
        reference=row.reference,
        reason=row.reason,
        means=row.means,
        source=row.source,
        customer=customer,
        already_opted_out=row.already_opted_out,
        attempts=row.attempts,
        error=failure,
        requested_at=row.requested_at,
        created_at=row.created_at,
        opted_out_at=row.opted_out_at,
        next_attempt_at=row.next_attempt_at,
        phone_number_received=row.phone_number_received or None,
        request_id=row.request_id or None,
        delivery_id=row.delivery_id,
    )


def read_attempt(row: LedgerRow) -> Attempt:
    return Attempt(row.started_at, row.ended_at, row.outcome, row.http_status, _read_words(row))


def words_columns(words: CrmTextWords | None) -> Values:
    return {
        "crmtext_status": words and words.status,
        "crmtext_message": words and words.message,
    }


def _read_words(row: LedgerRow) -> CrmTextWords | None:
    if row.crmtext_status is None and row.crmtext_message is None:
        return None
    return CrmTextWords(row.crmtext_status, row.crmtext_message)


def _failure_columns(failure: Failure | None) -> Values:
    return {
        "error_code": failure and failure.code,
        "error_detail": failure and failure.detail,
    } | words_columns(failure.crmtext if failure else None)


def _pending(next_attempt_at: datetime, failure: Failure | None) -> Values:
    due_at = {"status": Status.PENDING, "next_attempt_at": next_attempt_at}
    return _NOTHING_YET | _failure_columns(failure) | due_at


_NOTHING_YET: Values = {
    "claim": None,
    "opted_out_at": None,
    "already_opted_out": False,
    "customer": None,
}
_ENDED: Values = {"next_attempt_at": None}
