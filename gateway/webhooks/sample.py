"""Messages as a source's sender would send them: to try a source without the sender."""

from collections.abc import Mapping
from datetime import datetime
from string import Template

from gateway.bodies import BodyFormat
from gateway.timestamps import TimestampFormat, write_timestamp
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.signatures import SignedRequest, sign
from gateway.webhooks.source import WebhookSource

_MEDIA_TYPES = {
    BodyFormat.JSON: "application/json",
    BodyFormat.FORM: "application/x-www-form-urlencoded",
}


def sample_body(
    source: WebhookSource, phone_number: str, message_id: str, now: datetime
) -> bytes | None:
    """A body that opts the number out as the source's recipe has it; None without a recipe."""
    if source.recipe is None:
        return None
    parts = {
        "number": phone_number,
        "id": message_id,
        "now": write_timestamp(now, TimestampFormat.RFC3339),
        "unix": write_timestamp(now, TimestampFormat.UNIX),
        "unix_ms": str(int(now.timestamp() * 1000)),
    }
    return Template(read_recipes()[source.recipe].sample).substitute(parts).encode()


def signed_headers(
    source: WebhookSource, url: str, body: bytes, message_id: str, now: datetime
) -> Mapping[str, str]:
    """The headers of a message to this address, signed with the source's first secret.

    Raises ValueError if the body cannot be signed so.
    """
    signature = source.signature
    headers = {"Content-Type": _MEDIA_TYPES[source.body]}
    if source.delivery_id_header:
        headers[source.delivery_id_header] = message_id
    if signature.id_header:
        headers[signature.id_header] = message_id
    if signature.timestamp:
        timestamp = signature.timestamp
        headers[timestamp.header] = write_timestamp(now, timestamp.format)
    lower = {name.lower(): text for name, text in headers.items()}
    request = SignedRequest("POST", url, lower, body)
    return {**headers, signature.header: sign(signature, request, source.secrets[0])}
