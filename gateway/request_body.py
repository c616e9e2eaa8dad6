"""Request bodies: refused by type and by size before they are read, and never decompressed."""

from contextlib import suppress

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from gateway.errors import ErrorCode, GatewayError

_MOST_DISCARDED = 8 * 1024 * 1024
_AT_ONCE = 64 * 1024


def read_body(*, limit: int, is_form: bool = False, may_lack_type: bool = False) -> bytes:
    """The body of the current request, of at most ``limit`` bytes.

    Raises GatewayError (unsupported_media_type, payload_too_large, invalid_request).
    """
    if request.headers.get("Content-Encoding"):
        raise _unsupported("Send the body without a Content-Encoding.")
    if not (may_lack_type and not request.mimetype):
        _check_type(is_form=is_form)
    # One more than is taken: a body without a length is cut there, and no error raised.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        _discard_the_rest()
        raise _too_large(limit) from None
    except Exception:  # each server has its own for a body that is no HTTP
        raise _cut_short() from None
    if len(body) > limit:
        _discard_the_rest()
        raise _too_large(limit)
    if len(body) < (request.content_length or 0):
        raise _cut_short()
    return body


def _check_type(*, is_form: bool) -> None:
    if is_form and request.mimetype != "application/x-www-form-urlencoded":
        raise _unsupported("Send 'Content-Type: application/x-www-form-urlencoded'.")
    if not is_form and not request.is_json:
        raise _unsupported("Send 'Content-Type: application/json'.")


def _discard_the_rest() -> None:
    """A client that is still sending when the connection closes never reads its answer."""
    if "Expect" in request.headers:  # it sends nothing before it is told to
        return
    with suppress(Exception):  # it is not taken anyway, whatever is wrong with it
        for _ in range(_MOST_DISCARDED // _AT_ONCE):
            if not request.input_stream.read(_AT_ONCE):
                return


def _cut_short() -> GatewayError:
    what = "The body ended early, or is not sent as HTTP/1.1 says (Content-Length or chunks)."
    return GatewayError(ErrorCode.INVALID_REQUEST, what)


def _too_large(limit: int) -> GatewayError:
    what = f"The body is larger than {limit // 1024} KiB, the most that is taken here."
    return GatewayError(ErrorCode.PAYLOAD_TOO_LARGE, what)


def _unsupported(what: str) -> GatewayError:
    return GatewayError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, what)
