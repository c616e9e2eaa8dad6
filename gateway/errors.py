"""Every error the gateway reports: one enum of codes, one table that says what each one means.

To add a code, add a member to ``ErrorCode``, a row to ``ERRORS`` and a text to web/problems.toml;
tests refuse one without the others. ``GatewayError`` carries a code to the edge, where it becomes a
problem body.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """The ``code`` of a problem, and the outcome of a call that did not opt anyone out."""

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
    """What a code means in HTTP: its status, when to repeat the request, and a title.

    ``retry_after`` is in seconds, or None if repeating the same request cannot succeed.
    """

    status: int
    retry_after: int | None
    title: str

    @property
    def retryable(self) -> bool:
        return self.retry_after is not None


ERRORS: Mapping[ErrorCode, ErrorKind] = {
    ErrorCode.INVALID_JSON: ErrorKind(400, None, "The body is not valid JSON"),
    ErrorCode.INVALID_REQUEST: ErrorKind(400, None, "The request is malformed"),
    ErrorCode.UNAUTHORIZED: ErrorKind(401, None, "Not authenticated"),
    ErrorCode.FORBIDDEN: ErrorKind(403, None, "The API key may not do this"),
    ErrorCode.NOT_FOUND: ErrorKind(404, None, "Nothing found at this address"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(405, None, "Method not allowed here"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorKind(413, None, "The body is too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorKind(415, None, "Unsupported content type"),
    ErrorCode.VALIDATION_FAILED: ErrorKind(422, None, "Some fields are not valid"),
    ErrorCode.INVALID_PHONE_NUMBER: ErrorKind(422, None, "Not a usable US phone number"),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: ErrorKind(422, None, "This idempotency key has another body"),
    ErrorCode.NOT_RETRYABLE: ErrorKind(409, None, "This opt-out cannot be retried"),
    ErrorCode.CUSTOMER_NOT_FOUND: ErrorKind(404, None, "CRM Text does not know this customer"),
    ErrorCode.CRMTEXT_REJECTED: ErrorKind(422, None, "CRM Text refused the request"),
    ErrorCode.CRMTEXT_AUTH_FAILED: ErrorKind(502, None, "CRM Text refused the store's credentials"),
    ErrorCode.CRMTEXT_RATE_LIMITED: ErrorKind(503, 2, "Too many calls to CRM Text"),
    ErrorCode.CRMTEXT_UNAVAILABLE: ErrorKind(502, 5, "CRM Text reported an internal error"),
    ErrorCode.CRMTEXT_UNREACHABLE: ErrorKind(502, 5, "CRM Text cannot be reached"),
    ErrorCode.CRMTEXT_TIMEOUT: ErrorKind(504, 5, "CRM Text did not answer in time"),
    ErrorCode.CRMTEXT_INVALID_RESPONSE: ErrorKind(502, 5, "CRM Text's answer cannot be used"),
    ErrorCode.GATEWAY_BUSY: ErrorKind(503, 1, "Too many requests at once"),
    ErrorCode.LEDGER_UNAVAILABLE: ErrorKind(503, 5, "The gateway's database is unavailable"),
    ErrorCode.INTERNAL_ERROR: ErrorKind(500, 5, "Internal error"),
}


# What the ``error`` of an opt-out on record can be.
CODES_ON_RECORD: Sequence[ErrorCode] = (
    ErrorCode.INVALID_PHONE_NUMBER,
    ErrorCode.CUSTOMER_NOT_FOUND,
    *(code for code in ErrorCode if code.startswith("crmtext_")),
    ErrorCode.INTERNAL_ERROR,
)


@dataclass(frozen=True)
class FieldError:
    """One wrong field: where (a JSON pointer), a code for programs, words for people."""

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True)
class CrmTextWords:
    """What CRM Text's XML said, with secrets and digits masked; shown to callers."""

    status: str | None
    message: str | None


@dataclass(frozen=True)
class Failure:
    """Why something was not done, or not yet. ``detail`` is shown to callers: no secret is in it.

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
    """The environment is not as it must be; ``faults`` has one line for each thing wrong.

    As text it ends with the ``warnings``, since what merely looks odd may be the cause of a fault.
    """

    def __init__(self, faults: Sequence[str], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join([*faults, *(f"Warning: {warning}" for warning in warnings)]))
        self.faults = tuple(faults)
