"""Cursors of a search: where a page ended, signed, so that only those given out are accepted."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

from itsdangerous import BadData, URLSafeSerializer

from gateway.consent import OptOut
from gateway.errors import ErrorCode, FieldError, GatewayError


class Cursors:
    """Writes and reads cursors with a ``secret`` that all web processes share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, last: OptOut, search: Mapping[str, object]) -> str:
        """The cursor of the page after ``last``, valid for the same search only."""
        return self._of(search).dumps([last.created_at.isoformat(), last.id])

    def read(self, cursor: str, search: Mapping[str, object]) -> tuple[datetime, str]:
        """Raises GatewayError (invalid_request) for a cursor that was not given for this search."""
        try:
            created_at, opt_out_id = self._of(search).loads(cursor)
        except BadData:
            raise _invalid() from None
        return datetime.fromisoformat(created_at), opt_out_id

    def _of(self, search: Mapping[str, object]) -> URLSafeSerializer:
        salt = json.dumps(search, default=str, sort_keys=True)
        signing = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return URLSafeSerializer(self._secret, salt, signer_kwargs=signing)


def _invalid() -> GatewayError:
    detail = "cursor is not a next_cursor of this search; start again without one."
    errors = [FieldError("/cursor", "invalid", detail)]
    return GatewayError(ErrorCode.INVALID_REQUEST, f"The {detail}", errors=errors)
