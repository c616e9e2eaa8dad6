"""Cursors of a search: where a page ended, signed, so that only those given out are taken back."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime

from gateway.consent import OptOut
from gateway.errors import ErrorCode, FieldError, GatewayError

_MAC_BYTES = 16


class Cursors:
    """Writes and reads cursors with a ``secret`` that all web processes share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, last: OptOut, search: Mapping[str, object]) -> str:
        """The cursor of the page after ``last``, good for the same search only."""
        place = json.dumps([last.created_at.isoformat(), last.id]).encode()
        return _encoded(self._mac(place, search) + place)

    def read(self, cursor: str, search: Mapping[str, object]) -> tuple[datetime, str]:
        """Raises GatewayError (invalid_request) for a cursor that was not given for this search."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True)
        except ValueError:
            raise _invalid() from None
        if _encoded(text) != cursor:
            raise _invalid()
        mac, place = text[:_MAC_BYTES], text[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(place, search)):
            raise _invalid()
        created_at, opt_out_id = json.loads(place)
        return datetime.fromisoformat(created_at), opt_out_id

    def _mac(self, place: bytes, search: Mapping[str, object]) -> bytes:
        meant = json.dumps(search, default=str, sort_keys=True).encode()
        return hmac.digest(self._secret, place + b"\n" + meant, hashlib.sha256)[:_MAC_BYTES]


def _encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _invalid() -> GatewayError:
    detail = "cursor is not a next_cursor of this search; start again without one."
    errors = [FieldError("/cursor", "invalid", detail)]
    return GatewayError(ErrorCode.INVALID_REQUEST, f"The {detail}", errors=errors)
