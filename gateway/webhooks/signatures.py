"""Is a message from who it claims? Total and constant in time, over the bytes as sent.

``verify`` answers whatever headers and body hold; it knows neither Flask nor the configuration
file. The senders' schemes are HMAC over a template of parts, a token in a header, and Twilio's.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.timestamps import TimestampFormat, read_timestamp
from gateway.webhooks.twilio import signed_texts

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MOST_SIGNATURES = 32
_BLANKS = " \t"  # a byte of a token in UTF-8 may look like another blank
_PART = re.compile(r"(\{[^{}]*\})")


class Scheme(StrEnum):
    """What a sender proves itself with."""

    HMAC = "hmac"
    TOKEN = "token"  # noqa: S105  # nosec B105
    TWILIO = "twilio"


class Hash(StrEnum):
    """The hash under an HMAC; SHA-1 is safe in an HMAC, and some senders still use it."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


class Encoding(StrEnum):
    """How a digest is written into the header."""

    HEX = "hex"
    BASE64 = "base64"


class SecretFormat(StrEnum):
    """What the text of a secret stands for: its own bytes, or those that it encodes."""

    TEXT = "text"
    WHSEC = "whsec"

    def key(self, secret: str) -> bytes:
        """The bytes to sign with; none if the text is not in this format."""
        try:
            if self is SecretFormat.TEXT:
                return secret.encode(
                    "utf-8", "surrogateescape"
                )  # os.environ's way with other bytes
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            return b""


class Refusal(StrEnum):
    """Why a message is not believed."""

    MISSING_SIGNATURE = "missing_signature"
    MALFORMED_SIGNATURE = "malformed_signature"
    WRONG_SIGNATURE = "wrong_signature"
    MISSING_ID = "missing_id"
    MISSING_TIMESTAMP = "missing_timestamp"
    MALFORMED_TIMESTAMP = "malformed_timestamp"
    STALE_TIMESTAMP = "stale_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"


# What the sender is told.
SENTENCES: Mapping[Refusal, str] = {
    Refusal.MISSING_SIGNATURE: "The webhook signature is missing.",
    Refusal.MALFORMED_SIGNATURE: "The webhook signature is malformed.",
    Refusal.WRONG_SIGNATURE: "The webhook signature is wrong.",
    Refusal.MISSING_ID: "The webhook id is missing.",
    Refusal.MISSING_TIMESTAMP: "The webhook timestamp is missing.",
    Refusal.MALFORMED_TIMESTAMP: "The webhook timestamp is malformed.",
    Refusal.STALE_TIMESTAMP: "The webhook timestamp is too old.",
    Refusal.FUTURE_TIMESTAMP: "The webhook timestamp is in the future.",
}


@dataclass(frozen=True)
class Timestamp:
    """The header with the time of sending, and how many seconds it may be off, inclusive."""

    header: str
    format: TimestampFormat
    tolerance: float

    def age(self, headers: Mapping[str, str], now: datetime) -> float | None:
        """Seconds since the message was sent, by its own account; None if that is unreadable."""
        sent_at = read_timestamp(headers.get(self.header.lower(), ""), self.format)
        return None if sent_at is None else (now - sent_at).total_seconds()


@dataclass(frozen=True)
class Signature:
    """How a sender signs. ``signed`` is text with {body} {timestamp} {method} {url} {id} in it."""

    scheme: Scheme
    header: str
    hash: Hash = Hash.SHA256
    encoding: Encoding = Encoding.HEX
    prefix: str = ""
    separator: str = ""
    signed: str = "{body}"
    secret_format: SecretFormat = SecretFormat.TEXT
    id_header: str = ""
    timestamp: Timestamp | None = None

    @property
    def placeholders(self) -> frozenset[str]:
        return placeholders_of(self.signed)

    @property
    def signs_url(self) -> bool:
        return self.scheme is Scheme.TWILIO or "{url}" in self.placeholders


@dataclass(frozen=True)
class SignedRequest:
    """A message as it came.

    ``url`` is the public URL followed by path and query as received. Header names are in lower
    case; a header that came several times is joined by commas. Texts are as WSGI gives them:
    each character is one byte.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def placeholders_of(signed: str) -> frozenset[str]:
    """What stands in braces in a template, braces included, known or not."""
    return frozenset(_PART.findall(signed))


def verify(
    signature: Signature, request: SignedRequest, secrets: Iterable[bytes], now: datetime
) -> Refusal | None:
    """None if the request was signed with one of the secrets, within tolerance; else why not.

    The time is judged last: only an authentic message is called stale or from the future.
    """
    given = request.headers.get(signature.header.lower(), "").strip(_BLANKS)
    if not given:
        return Refusal.MISSING_SIGNATURE
    candidates = _candidates(signature, given)
    if not candidates:
        return Refusal.MALFORMED_SIGNATURE
    missing = _missing_part(signature, request)
    if missing is not None:
        return missing
    try:
        accepted = [proof for secret in secrets for proof in _proofs(signature, request, secret)]
    except ValueError:  # characters or a form that no sender could have sent, let alone signed
        return Refusal.WRONG_SIGNATURE
    if not any(hmac.compare_digest(proof, one) for proof in accepted for one in candidates):
        return Refusal.WRONG_SIGNATURE
    return _judge_time(signature.timestamp, request, now)


def sign(signature: Signature, request: SignedRequest, secret: bytes) -> str:
    """The signature header of this request; its other headers are there already.

    Raises ValueError if it cannot be sent so.
    """
    proof = _proofs(signature, request, secret)[0]
    if signature.scheme is Scheme.TOKEN:
        text = proof.decode("latin-1")
    elif signature.encoding is Encoding.HEX:
        text = proof.hex()
    else:
        text = base64.b64encode(proof).decode()
    return signature.prefix + text


def _candidates(signature: Signature, given: str) -> list[bytes]:
    """The signatures in the header that are in the sender's form; none if there are too many."""
    parts = given.split(signature.separator) if signature.separator else [given]
    if len(parts) > _MOST_SIGNATURES:
        return []
    decoded = (_decode(signature, part.strip(_BLANKS)) for part in parts)
    return [candidate for candidate in decoded if candidate is not None]


def _decode(signature: Signature, part: str) -> bytes | None:
    start = part[: len(signature.prefix)]
    if signature.scheme is Scheme.TOKEN:
        # "Bearer" is the name of an authentication scheme, which has no case (RFC 9110, 11.1)
        has_prefix = start.lower() == signature.prefix.lower()
    else:
        has_prefix = start == signature.prefix
    if not has_prefix:
        return None
    text = part[len(signature.prefix) :]
    try:
        if signature.scheme is Scheme.TOKEN:
            return text.encode("latin-1")
        if signature.encoding is Encoding.HEX:
            return binascii.unhexlify(text)
        return base64.b64decode(text, validate=True)
    except ValueError:  # of all three: UnicodeEncodeError and binascii.Error are ValueErrors
        return None


def _missing_part(signature: Signature, request: SignedRequest) -> Refusal | None:
    if signature.timestamp and not request.headers.get(signature.timestamp.header.lower()):
        return Refusal.MISSING_TIMESTAMP
    if "{id}" in signature.placeholders and not request.headers.get(signature.id_header.lower()):
        return Refusal.MISSING_ID
    return None


def _proofs(signature: Signature, request: SignedRequest, secret: bytes) -> Sequence[bytes]:
    """What an authentic header holds; raises ValueError if the request cannot have been sent."""
    match signature.scheme:
        case Scheme.TOKEN:
            return [secret]
        case Scheme.HMAC:
            return [hmac.digest(secret, _signed_bytes(signature, request), signature.hash)]
        case Scheme.TWILIO:
            return [
                hmac.digest(secret, text, "sha1")
                for text in signed_texts(request.url, request.body)
            ]


def _signed_bytes(signature: Signature, request: SignedRequest) -> bytes:
    """The template filled part by part, so that braces in the body mean nothing."""
    headers, timestamp = request.headers, signature.timestamp
    parts = {
        "{body}": request.body,
        "{method}": request.method.encode("latin-1"),
        "{url}": request.url.encode("latin-1"),
        "{id}": headers.get(signature.id_header.lower(), "").encode("latin-1"),
    }
    if timestamp is not None:
        parts["{timestamp}"] = headers.get(timestamp.header.lower(), "").encode("latin-1")
    pieces = _PART.split(signature.signed)
    return b"".join(parts[piece] if piece in parts else piece.encode() for piece in pieces)


def _judge_time(
    timestamp: Timestamp | None, request: SignedRequest, now: datetime
) -> Refusal | None:
    if timestamp is None:
        return None
    age = timestamp.age(request.headers, now)
    if age is None:
        return Refusal.MALFORMED_TIMESTAMP
    if age > timestamp.tolerance:
        return Refusal.STALE_TIMESTAMP
    return Refusal.FUTURE_TIMESTAMP if age < -timestamp.tolerance else None
