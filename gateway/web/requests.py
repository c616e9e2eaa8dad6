"""Reads the body and the headers of a request.

The type and size of a body are checked before it is read, and a body is never decompressed. Headers
are read as their standards say.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import request
from marshmallow import Schema, ValidationError
from werkzeug.http import parse_list_header

from gateway.bodies import BodyFormat, check_media_type, read_json, too_large
from gateway.errors import ErrorCode, GatewayError
from gateway.phone_number import US_NUMBER
from schemas.fields import field_errors

# How a request with a body can fail before its fields are looked at.
BODY_PROBLEMS = (
    ErrorCode.GATEWAY_BUSY,
    ErrorCode.INVALID_JSON,
    ErrorCode.INVALID_REQUEST,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
)

_SECONDS_TO_DISCARD = 3.0
_MOST_DISCARDED = 8 * 1024 * 1024
_AT_ONCE = 64 * 1024
_LONGEST_WAIT_SECONDS = 15
_LONGEST_KEY = 255
_REQUEST_ID = re.compile(r"[A-Za-z0-9\-_.:]{1,128}")


@dataclass(frozen=True)
class Preference:
    """How long the caller wants to wait for the outcome; None: until the first attempt has ended.

    ``applied`` is what Preference-Applied says of it.
    """

    wait_seconds: int | None = None
    applied: str = ""


def read_prefer(header: str) -> Preference:
    """The caller's Prefer header (RFC 7240); of a repeated preference the first counts.

    What makes no sense is ignored. ``respond-async`` alone waits 0 seconds, and a wait over 15
    seconds counts as 15.
    """
    found: dict[str, str] = {}
    for preference in parse_list_header(header):
        name, _, value = preference.partition(";")[0].partition("=")  # without its parameters
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    seconds = min(int(wait[:9]), _LONGEST_WAIT_SECONDS) if re.fullmatch("[0-9]+", wait) else None
    applied = [] if seconds is None else [f"wait={seconds}"]
    if found.get("respond-async") == "":
        return Preference(seconds or 0, ", ".join(["respond-async", *applied]))
    return Preference(seconds, "".join(applied))


def read_idempotency_key(header: str | None) -> str | None:
    """The key, given as a quoted string or bare; None if there is no header.

    Raises GatewayError (invalid_request) unless it is 1 to 255 printable ASCII characters.
    """
    if header is None:
        return None
    key = header.strip(" \t")
    if key.startswith('"'):
        quoted = re.fullmatch(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if re.fullmatch(rf"[ -~]{{1,{_LONGEST_KEY}}}", key):
        return key
    raise GatewayError(
        ErrorCode.INVALID_REQUEST,
        f"Idempotency-Key must be 1 to {_LONGEST_KEY} printable ASCII characters, "
        "bare or as a quoted string.",
    )


def read_bearer(header: str) -> str | None:
    """The key in an Authorization header of the Bearer scheme; None for any other."""
    scheme, _, key = header.partition(" ")
    return key.strip(" ") if scheme.lower() == "bearer" else None


def is_sound_request_id(text: str) -> bool:
    """Whether the text may appear in log lines; a phone number may not."""
    return bool(_REQUEST_ID.fullmatch(text)) and not US_NUMBER.fullmatch(text)


def read_body(
    *, limit: int, written_as: BodyFormat = BodyFormat.JSON, may_lack_type: bool = False
) -> bytes:
    """The body of the current request, of at most ``limit`` bytes.

    Raises GatewayError (unsupported_media_type, payload_too_large, invalid_request,
    gateway_busy).
    """
    headers = request.headers
    content_type, encoding = headers.get("Content-Type", ""), headers.get("Content-Encoding", "")
    check_media_type(content_type, encoding, written_as, may_lack_type=may_lack_type)
    length = request.content_length or 0
    if length > limit:
        _discard_the_rest()
        raise too_large(limit)
    # One byte more than the limit: a body without a length is cut there without an error.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except GatewayError:  # the server itself refuses the request
        raise
    except Exception:  # each server raises its own for a body that is not HTTP
        raise _cut_short() from None
    if len(body) > limit:
        _discard_the_rest()
        raise too_large(limit)
    if len(body) < length:
        raise _cut_short()
    return body


def read_object(body: bytes) -> dict[str, object]:
    """The members of a JSON object. Raises GatewayError (invalid_json) for anything else."""
    given = read_json(body)
    if not isinstance(given, dict):
        raise GatewayError(ErrorCode.INVALID_JSON, "The body must be a JSON object.")
    return given


def load_fields(schema: Schema, given: Mapping[str, object]) -> dict[str, Any]:
    """The fields of a request. Raises GatewayError (validation_failed) about all that are wrong."""
    try:
        fields: dict[str, Any] = schema.load(given)
    except ValidationError as error:
        errors = field_errors(error)
        what = "Some fields are not valid: " + " ".join(one.detail for one in errors)
        raise GatewayError(ErrorCode.VALIDATION_FAILED, what, errors=errors) from None
    return fields


def _discard_the_rest() -> None:
    """Reads on: a client that still sends when the connection closes never reads its answer."""
    if "Expect" in request.headers:  # the client waits until it is told to send
        return
    hurry = getattr(request.environ.get("gunicorn.socket"), "hurry", None)
    if hurry:  # one that has stopped sending holds this thread
        hurry(_SECONDS_TO_DISCARD)
    with suppress(Exception):  # the body is refused anyway, whatever is wrong with it
        for _ in range(_MOST_DISCARDED // _AT_ONCE):
            if not request.input_stream.read(_AT_ONCE):
                return


def _cut_short() -> GatewayError:
    what = "The body ended early, or was not sent as HTTP/1.1 requires (Content-Length or chunks)."
    return GatewayError(ErrorCode.INVALID_REQUEST, what)
