"""Every error the gateway reports: one enum of codes, one table that says what each one means.

A code is added by adding a member to ``ErrorCode`` and a row to ``ERRORS``; a test refuses one
without the other. ``GatewayError`` carries a code to the edge, where it becomes a problem body.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """The ``code`` of a problem, and the outcome of a call that did not opt anybody out."""

    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    VALIDATION_FAILED = "validation_failed"
    INVALID_PHONE_NUMBER = "invalid_phone_number"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use"
    NOT_RETRYABLE = "not_retryable"
    CUSTOMER_NOT_FOUND = "customer_not_found"
    CRMTEXT_REJECTED = "crmtext_rejected"
    CRMTEXT_AUTH_FAILED = "crmtext_auth_failed"
    CRMTEXT_RATE_LIMITED = "crmtext_rate_limited"
    CRMTEXT_UNAVAILABLE = "crmtext_unavailable"
    CRMTEXT_UNREACHABLE = "crmtext_unreachable"
    CRMTEXT_TIMEOUT = "crmtext_timeout"
    CRMTEXT_INVALID_RESPONSE = "crmtext_invalid_response"
    GATEWAY_BUSY = "gateway_busy"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True)
class ErrorKind:
    """What a code means: its HTTP status, when to repeat the request, and words for people.

    ``retry_after`` is in seconds, and None where repeating the same request cannot succeed.
    """

    status: int
    retry_after: int | None
    title: str
    explanation: str

    @property
    def retryable(self) -> bool:
        return self.retry_after is not None


ERRORS: Mapping[ErrorCode, ErrorKind] = {
    ErrorCode.INVALID_JSON: ErrorKind(
        400,
        None,
        "The body is not readable JSON",
        "The body has to be one JSON object in UTF-8, without a byte order mark, without the same "
        "key twice, without NaN or Infinity, and neither nested nor as long in its numbers as no "
        "honest request is. Mend the program that wrote it; the same body is refused again.",
    ),
    ErrorCode.INVALID_REQUEST: ErrorKind(
        400,
        None,
        "The request is malformed",
        "A header, a cursor or another part of the request beside its fields cannot be understood. "
        "The detail names it.",
    ),
    ErrorCode.UNAUTHORIZED: ErrorKind(
        401,
        None,
        "The caller is not known",
        "Requests under /v1 need 'Authorization: Bearer KEY' with a key that the operator has "
        "issued. A webhook needs its source's signature, made with the shared secret over the "
        "bytes as sent, and a timestamp within tolerance where the source signs one.",
    ),
    ErrorCode.FORBIDDEN: ErrorKind(
        403,
        None,
        "The key may not act on this store",
        "The API key is bound to other stores. Name one of its own, or ask the gateway's operator "
        "for a key that covers the store.",
    ),
    ErrorCode.NOT_FOUND: ErrorKind(
        404,
        None,
        "There is nothing at this address",
        "The address is unknown, or names something that does not exist or that the API key may "
        "not see. /openapi.json lists all addresses.",
    ),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(
        405,
        None,
        "The address does not take this method",
        "The address exists, but not for this HTTP method. The Allow header lists those it takes.",
    ),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorKind(
        413,
        None,
        "The body is too large",
        "A JSON request may have 64 KiB, a webhook delivery 1 MiB. The body was not read.",
    ),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorKind(
        415,
        None,
        "The body is of a type that is not taken here",
        "Send 'Content-Type: application/json' and no Content-Encoding; webhooks come in the type "
        "that their source is configured for.",
    ),
    ErrorCode.VALIDATION_FAILED: ErrorKind(
        422,
        None,
        "Some fields are not valid",
        "The body is JSON, but its fields are not as required. Each of 'errors' points to one "
        "field and says what is wrong with it. Nothing was sent to CRM Text.",
    ),
    ErrorCode.INVALID_PHONE_NUMBER: ErrorKind(
        422,
        None,
        "The phone number is not usable",
        "It is no US number, and is not repaired, since a guess would opt out another person. Of a "
        "request this code stands in 'errors'; a webhook's event with such a number is on record "
        "as rejected with it: somebody withdrew their consent, and a person has to look who.",
    ),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: ErrorKind(
        422,
        None,
        "The idempotency key belongs to another request",
        "This Idempotency-Key came with a different body before. Use a new key for a new request; "
        "repeat a request with its body unchanged, byte for byte.",
    ),
    ErrorCode.IDEMPOTENCY_KEY_IN_USE: ErrorKind(
        409,
        1,
        "The first request with this idempotency key is still being answered",
        "Wait as long as Retry-After says and repeat the request with the same key and body.",
    ),
    ErrorCode.NOT_RETRYABLE: ErrorKind(
        409,
        None,
        "This opt-out cannot be retried",
        "Only a failed or rejected opt-out with a usable phone number can be delivered again. A "
        "pending one is being delivered, an opted-out one is done; a corrected number needs a new "
        "opt-out.",
    ),
    ErrorCode.CUSTOMER_NOT_FOUND: ErrorKind(
        404,
        None,
        "CRM Text does not know this customer",
        "The store has no customer with this phone number, so there is nobody to opt out. Check "
        "the number and the store.",
    ),
    ErrorCode.CRMTEXT_REJECTED: ErrorKind(
        422,
        None,
        "CRM Text refused the request",
        "CRM Text answered that it will not do this. Its own words are in 'crmtext'. Repeating the "
        "request will not help before the reason is gone.",
    ),
    ErrorCode.CRMTEXT_AUTH_FAILED: ErrorKind(
        502,
        None,
        "CRM Text refused the gateway's credentials",
        "The caller did nothing wrong: the auth string of the store is wrong, expired or not of a "
        "primary keyword. The gateway's operator has to mend CRMTEXT_AUTH_STRINGS.",
    ),
    ErrorCode.CRMTEXT_RATE_LIMITED: ErrorKind(
        503,
        2,
        "Too many calls to CRM Text",
        "CRM Text asked for fewer calls, or no turn came up within the pace that the gateway keeps "
        "to. Repeat the request after Retry-After, or let the gateway deliver it with 'Prefer: "
        "respond-async'.",
    ),
    ErrorCode.CRMTEXT_UNAVAILABLE: ErrorKind(
        502,
        5,
        "CRM Text has trouble of its own",
        "CRM Text answered with a server error. Repeat the request after Retry-After, or let the "
        "gateway deliver it with 'Prefer: respond-async'.",
    ),
    ErrorCode.CRMTEXT_UNREACHABLE: ErrorKind(
        502,
        5,
        "CRM Text cannot be reached",
        "No connection, a failed TLS handshake or name look-up, or a connection that was lost "
        "before the first byte of an answer. Repeat the request after Retry-After.",
    ),
    ErrorCode.CRMTEXT_TIMEOUT: ErrorKind(
        504,
        5,
        "CRM Text did not answer in time",
        "There was no complete answer within the gateway's timeout. The customer may be opted out "
        "or not; repeating is safe, since opting out twice changes nothing.",
    ),
    ErrorCode.CRMTEXT_INVALID_RESPONSE: ErrorKind(
        502,
        5,
        "CRM Text's answer cannot be relied on",
        "What came back cannot be read as CRM Text's answer, or contradicts itself. The customer "
        "may be opted out or not; repeating is safe, since opting out twice changes nothing.",
    ),
    ErrorCode.GATEWAY_BUSY: ErrorKind(
        503,
        1,
        "Too many requests wait for CRM Text already",
        "The gateway keeps some of its threads free for other work while CRM Text is slow. Nothing "
        "was sent and nothing recorded. Repeat the request after Retry-After, or use 'Prefer: "
        "respond-async', which does not wait.",
    ),
    ErrorCode.LEDGER_UNAVAILABLE: ErrorKind(
        503,
        5,
        "The gateway's ledger cannot be used",
        "The database is unreachable or locked. Nothing was sent to CRM Text and nothing accepted. "
        "Repeat the request after Retry-After.",
    ),
    ErrorCode.INTERNAL_ERROR: ErrorKind(
        500,
        5,
        "The gateway has a bug",
        "Something happened that the gateway was not written for. The gateway's operator finds it "
        "in the log under the request id. Repeating is safe.",
    ),
}


@dataclass(frozen=True)
class FieldError:
    """One wrong field: where (a JSON pointer), a code for programs, words for people."""

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True)
class CrmTextWords:
    """What CRM Text's XML said of itself, with secrets and digits masked; shown to callers."""

    status: str | None
    message: str | None


@dataclass(frozen=True)
class Failure:
    """Why something was not done, or not yet. ``detail`` is shown to callers and holds no secret.

    ``retry_after`` is in seconds; None means what the code's row in ``ERRORS`` says.
    """

    code: ErrorCode
    detail: str
    crmtext: CrmTextWords | None = None
    retry_after: int | None = None
    errors: Sequence[FieldError] = ()

    @property
    def retryable(self) -> bool:
        return ERRORS[self.code].retryable

    @property
    def is_refusal(self) -> bool:
        """Whether CRM Text itself refused for good, so that no retry can help."""
        return self.code in (ErrorCode.CUSTOMER_NOT_FOUND, ErrorCode.CRMTEXT_REJECTED)


class GatewayError(Exception):
    """Raised to say that a request failed: a Failure, and the opt-out on record if there is one."""

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        opt_out_id: str | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.failure = Failure(code, detail, errors=tuple(errors))
        self.opt_out_id = opt_out_id

    @property
    def code(self) -> ErrorCode:
        return self.failure.code

    @property
    def detail(self) -> str:
        return self.failure.detail


class LedgerUnavailable(GatewayError):
    """The database did not take or give what was asked of it; nothing of it is stored."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.LEDGER_UNAVAILABLE, detail)


class ConfigurationError(Exception):
    """The environment is not as it must be; ``faults`` has one line for each thing wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
