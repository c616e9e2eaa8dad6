"""The parts of the OpenAPI document that operations refer to by name."""

from collections.abc import Collection

from apispec import APISpec

from gateway.errors import ERRORS, CrmTextWords, ErrorCode, Failure, FieldError
from gateway.logs import request_id
from gateway.web.docs.enums import MEANINGS, component
from gateway.web.docs.examples import OPTED_OUT
from gateway.web.problems import problem

_TEXT = {"type": "string"}
# A bare key does not begin with a quotation mark; a quoted one escapes it and the backslash.
_IDEMPOTENCY_KEY = r'^(?:"(?:[ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~][ -~]{0,254})$'
_PARAMETERS = {
    "X-Request-ID": (
        "header",
        "Up to 128 letters, digits and `-_.:`. It is in the answer and in every log line of the "
        "request. Any other value is replaced by a new id.",
        _TEXT,
    ),
    "Prefer": (
        "header",
        "How long to wait for CRM Text: `wait=5` at most 5 seconds (15 is the longest), "
        "`respond-async` not at all; without it, until the first call has ended (RFC 7240).",
        _TEXT | {"examples": ["wait=5", "respond-async"]},
    ),
    "Idempotency-Key": (
        "header",
        "Up to 255 printable ASCII characters, as a quoted string or bare: the same key with the "
        "same body, byte for byte, is the same opt-out.",
        _TEXT | {"pattern": _IDEMPOTENCY_KEY},
    ),
    "opt_out_id": ("path", "`id` of the opt-out", _TEXT | {"format": "uuid"}),
    "source": ("path", "the source's name in the gateway's configuration", _TEXT),
    "code": ("path", "`code` of a problem", {"$ref": "#/components/schemas/ErrorCode"}),
}
# A description, and whether every answer that lists the header has it. Headers of every answer, and
# those that HTTP itself prescribes, are not listed: they would be repeated under every answer.
_HEADERS = {
    "Location": ('The address of the opt-out; with `"store": "*"` there is none.', False),
    "Preference-Applied": ("The preferences that were applied: `respond-async`, `wait=n`.", False),
    "Idempotency-Replayed": ("`true` if the opt-out is on record from an earlier request.", False),
}


def add_components(spec: APISpec, codes: Collection[ErrorCode]) -> None:
    """Adds all of them, with an example of a problem for each of the codes."""
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key issued by the gateway's operator.",
    }
    spec.components.security_scheme("key", scheme)
    for enum in MEANINGS:
        spec.components.schema(enum.__name__, component(enum))
    for name, (place, words, schema) in _PARAMETERS.items():
        spec.components.parameter(
            name, place, {"description": words, "required": place == "path", "schema": schema}
        )
    for name, (words, required) in _HEADERS.items():
        header = {"description": words, "required": required, "schema": _TEXT}
        spec.components.header(name, header)
    for code in sorted(codes):
        example = {"summary": ERRORS[code].title, "value": _problem_example(code)}
        spec.components.example(code, example)


def _problem_example(code: ErrorCode) -> object:
    """A problem with this code, rendered like any other."""
    is_upstreams = code in (ErrorCode.CUSTOMER_NOT_FOUND, ErrorCode.CRMTEXT_REJECTED)
    pointer = FieldError("/phone_number", ErrorCode.INVALID_PHONE_NUMBER, "phone_number is empty.")
    failure = Failure(
        code,
        f"{ERRORS[code].title}.",
        crmtext=CrmTextWords(str(ERRORS[code].status), "reason") if is_upstreams else None,
        errors=[pointer] if code is ErrorCode.VALIDATION_FAILED else [],
    )
    token = request_id.set("5f2b6c1e9d")
    try:
        return problem(failure, OPTED_OUT.id if is_upstreams else None).get_json()
    finally:
        request_id.reset(token)
