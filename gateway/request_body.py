"""Request bodies: refused by type and by size before they are read, and never decompressed."""

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from gateway.errors import ErrorCode, GatewayError


def read_body(*, limit: int, is_form: bool = False, may_lack_type: bool = False) -> bytes:
    """The body of the current request, of at most ``limit`` bytes.

    Raises GatewayError (unsupported_media_type, payload_too_large).
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
        raise _too_large(limit) from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _check_type(*, is_form: bool) -> None:
    if is_form and request.mimetype != "application/x-www-form-urlencoded":
        raise _unsupported("Send 'Content-Type: application/x-www-form-urlencoded'.")
    if not is_form and not request.is_json:
        raise _unsupported("Send 'Content-Type: application/json'.")


def _too_large(limit: int) -> GatewayError:
    what = f"The body is larger than {limit // 1024} KiB, the most that is taken here."
    return GatewayError(ErrorCode.PAYLOAD_TOO_LARGE, what)


def _unsupported(what: str) -> GatewayError:
    return GatewayError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, what)
