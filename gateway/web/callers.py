"""Who calls, what they may act on, and what they may see."""

import hashlib
import hmac
from collections.abc import Sequence

from gateway.accounts import ALL_STORES, ApiKey
from gateway.consent import OptOut
from gateway.errors import ErrorCode, GatewayError
from gateway.web.requests import read_bearer


def caller_of(keys: Sequence[ApiKey], authorization: str) -> ApiKey:
    """The API key in an Authorization header. Raises GatewayError (unauthorized)."""
    key = read_bearer(authorization)
    if not key:
        what = "The API key is missing. Send 'Authorization: Bearer KEY'."
        raise GatewayError(ErrorCode.UNAUTHORIZED, what)
    digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
    found = [known for known in keys if hmac.compare_digest(known.digest, digest)]
    if not found:
        raise GatewayError(ErrorCode.UNAUTHORIZED, "The API key is unknown.")
    return found[0]


def stores_for(caller: ApiKey, named: str | None, keywords: Sequence[str]) -> list[str]:
    """The stores that a request means: the named one, all of the key's, or the first of them.

    Raises GatewayError (forbidden) for a store of other keys.
    """
    own = [keyword for keyword in keywords if caller.may_act_on(keyword)]
    if named == ALL_STORES:
        return own
    if named is None:
        return own[:1]
    if named not in own:
        raise GatewayError(ErrorCode.FORBIDDEN, f"The API key may not act on store {named}.")
    return [named]


def visible_to(caller: ApiKey, opt_out: OptOut | None) -> OptOut:
    """The opt-out. Raises GatewayError (not_found) if there is none or the key may not see it."""
    if opt_out is None or not caller.may_act_on(opt_out.store):
        what = "There is no such opt-out, or the API key may not see it."
        raise GatewayError(ErrorCode.NOT_FOUND, what)
    return opt_out
