"""Why a signature is wrong: the usual mistakes, tried one by one and two at a time.

Only ``webhooks check`` tries them. The gateway itself accepts what is configured, and nothing that
merely comes close. Nothing said here contains a secret.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit

from gateway.bodies import read_json
from gateway.errors import GatewayError
from gateway.timestamps import TimestampFormat
from gateway.webhooks.signatures import (
    Encoding,
    Hash,
    Refusal,
    Scheme,
    SecretFormat,
    Signature,
    SignedRequest,
    Timestamp,
    verify,
)

# The time is judged last: with these, the signature itself is right.
_RIGHT = (
    None,
    Refusal.MALFORMED_TIMESTAMP,
    Refusal.STALE_TIMESTAMP,
    Refusal.FUTURE_TIMESTAMP,
)
_TEMPLATES = (
    *("{body}", "{timestamp}{body}", "{timestamp}.{body}", "{timestamp}:{body}"),
    *("{body}{timestamp}", "v0:{timestamp}:{body}", "{id}.{timestamp}.{body}"),
    *("{method}{url}{body}{timestamp}", "{url}{body}", "{body}{url}"),
)
_SIGNATURE_HEADER = re.compile(r"sign|hmac|token|secret|auth|hook")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_-]{1,20}[=,:]|Bearer |Basic )(?=[^=])")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_NOT_AS_SENT = "so the body is not byte for byte what was sent"


@dataclass(frozen=True)
class _Case:
    """A message, how it is taken to be signed, and with which keys."""

    signature: Signature
    request: SignedRequest
    keys: tuple[bytes, ...]


# What is different, in words that continue "good if …", and the case with that difference.
_Cases = Iterator[tuple[str, _Case]]


def explain(
    signature: Signature, request: SignedRequest, keys: Sequence[bytes], now: datetime
) -> str | None:
    """What would make a refused signature good, after "good if"; None if no usual mistake does."""
    case = _Case(signature, request, tuple(keys))
    found = (
        words
        for cases in (_one_change(case), _two_changes(case))
        for words, changed in cases
        if verify(changed.signature, changed.request, changed.keys, now) in _RIGHT
    )
    return next(found, None)


def _one_change(case: _Case) -> _Cases:
    for change in _CHANGES:
        yield from change(case)


def _two_changes(case: _Case) -> _Cases:
    for place, change in enumerate(_CHANGES):
        for words, changed in change(case):
            for other in _CHANGES[place + 1 :]:
                for more_words, both in other(changed):
                    yield f"{words}, and {more_words}", both


def _other_bodies(case: _Case) -> _Cases:
    body = case.request.body
    bodies = {
        "the body has no line end at its end": body.removesuffix(b"\n").removesuffix(b"\r"),
        "the body has a line end at its end": body + b"\n",
        "the body's lines end with LF": body.replace(b"\r\n", b"\n"),
        "the body's lines end with CR LF": body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        **_rewritten(body),
    }
    for words, other in bodies.items():
        if other != body:
            yield f"{words}, {_NOT_AS_SENT}", _with_request(case, body=other)


def _rewritten(body: bytes) -> dict[str, bytes]:
    """The same JSON as other programs write it."""
    try:
        value = read_json(body)
    except GatewayError:
        return {}
    bodies = {}
    for escapes, ensure_ascii in (("", False), (" with \\u escapes", True)):
        for words, separators, indent, sort_keys in (
            ("without spaces", (",", ":"), None, False),
            ("with a space after commas and colons", (", ", ": "), None, False),
            ("indented by 2", None, 2, False),
            ("without spaces, its keys sorted", (",", ":"), None, True),
        ):
            text = json.dumps(
                value,
                ensure_ascii=ensure_ascii,
                separators=separators,
                indent=indent,
                sort_keys=sort_keys,
            )
            what = f"the body is JSON {words}{escapes}"
            bodies[what] = text.encode("utf-8", "surrogatepass")
    return bodies


def _other_keys(case: _Case) -> _Cases:
    keys = case.keys
    if case.signature.secret_format is SecretFormat.WHSEC:
        encoded = [base64.b64encode(key) for key in keys]
        others = {
            "the secret is used as the text that it is (secret_format = 'text')": [
                b"whsec_" + text for text in encoded
            ],
            "the secret is used as the text after whsec_": encoded,
        }
    else:
        others = {
            "the secret is used without its line end": [key.rstrip(b"\r\n") for key in keys],
            "the secret is used without the blanks around it": [key.strip() for key in keys],
            "the secret is used without the quotes around it": [
                key.strip().strip(b"\"'") for key in keys
            ],
            "the secret is used with a line end behind it": [key + b"\n" for key in keys],
            "the secret is used with double quotes around it": [b'"%b"' % key for key in keys],
            "the secret is used with single quotes around it": [b"'%b'" % key for key in keys],
            "the secret is decoded from hex": [_from_hex(key) for key in keys],
            "the secret is decoded from base64 (secret_format = 'whsec')": [
                SecretFormat.WHSEC.key(key.decode("latin-1").strip()) for key in keys
            ],
        }
    for words, changed in others.items():
        usable = tuple(key for key in changed if key)
        if usable != keys:
            yield words, replace(case, keys=usable)


def _from_hex(key: bytes) -> bytes:
    try:
        return binascii.unhexlify(key.strip())
    except ValueError:
        return b""


def _other_headers(case: _Case) -> _Cases:
    own = case.signature.header.lower()
    for header in case.request.headers:
        if header != own and _SIGNATURE_HEADER.search(header):
            signature = replace(case.signature, header=header)
            yield f"the signature is in the header {header}", replace(case, signature=signature)


def _other_prefixes(case: _Case) -> _Cases:
    signature = case.signature
    given = case.request.headers.get(signature.header.lower(), "").strip()
    found = _PREFIX.match(given)
    prefixes = {"": "the signature has no prefix"}
    if found:
        prefixes[found[0]] = f"the prefix is {found[0]!r}"
    for prefix, words in prefixes.items():
        if prefix != signature.prefix:
            yield words, replace(case, signature=replace(signature, prefix=prefix))


def _other_encodings(case: _Case) -> _Cases:
    signature = case.signature
    if signature.scheme is Scheme.HMAC:
        for encoding in Encoding:
            if encoding is not signature.encoding:
                words = f"the signature is {encoding}, not {signature.encoding}"
                yield words, replace(case, signature=replace(signature, encoding=encoding))


def _other_hashes(case: _Case) -> _Cases:
    signature = case.signature
    if signature.scheme is Scheme.HMAC:
        for hash_ in Hash:
            if hash_ is not signature.hash:
                words = f"the hash is {hash_}, not {signature.hash}"
                yield words, replace(case, signature=replace(signature, hash=hash_))


def _other_templates(case: _Case) -> _Cases:
    signature, headers = case.signature, case.request.headers
    if signature.scheme is not Scheme.HMAC:
        return
    times = [signature.timestamp] if signature.timestamp else []
    times += [
        Timestamp(name, TimestampFormat.UNIX, tolerance=300) for name in headers if "time" in name
    ]
    ids = [signature.id_header] if signature.id_header else []
    ids += [name for name in headers if name.endswith("id")]
    for template in _TEMPLATES:
        for timestamp in times if "{timestamp}" in template else [None]:
            for id_header in ids if "{id}" in template else [""]:
                changed = replace(
                    signature, signed=template, timestamp=timestamp, id_header=id_header
                )
                words = [f"what is signed is {template}"]
                words += [f"the timestamp is in {timestamp.header}"] if timestamp else []
                words += [f"the id is in {id_header}"] if id_header else []
                yield ", where ".join(words), replace(case, signature=changed)


def _other_addresses(case: _Case) -> _Cases:
    if not case.signature.signs_url:
        return
    try:
        url = urlsplit(case.request.url)
        host = url.netloc.removesuffix(f":{url.port}")
    except ValueError:  # what was saved is no address
        return
    port = _DEFAULT_PORTS.get(url.scheme)
    scheme = "http" if url.scheme == "https" else "https"
    others = {
        "without the slash at its end": url._replace(path=url.path.rstrip("/")),
        "with a slash at its end": url._replace(path=url.path.rstrip("/") + "/"),
        f"with {scheme}://": url._replace(scheme=scheme),
        "without a port": url._replace(netloc=host),
        f"with :{port}": url._replace(netloc=f"{host}:{port}"),
        "without a query": url._replace(query=""),
        **{f"for the host {name}": url._replace(netloc=name) for name in _hosts(case, url.port)},
    }
    for words, other in others.items():
        if other != url:
            yield f"the address is signed {words}", _with_request(case, url=other.geturl())


def _hosts(case: _Case, port: int | None) -> Iterator[str]:
    """Other names under which the sender may know the gateway."""
    for header in ("host", "x-forwarded-host"):
        if name := case.request.headers.get(header):
            yield name
    for name in ("localhost", "127.0.0.1"):
        yield f"{name}:{port}" if port else name


def _with_request(case: _Case, *, url: str | None = None, body: bytes | None = None) -> _Case:
    request = case.request
    return replace(
        case,
        request=replace(
            request,
            url=request.url if url is None else url,
            body=request.body if body is None else body,
        ),
    )


# The bodies come first, since they take longest to make.
_CHANGES = (
    _other_bodies,
    _other_keys,
    _other_headers,
    _other_prefixes,
    _other_encodings,
    _other_hashes,
    _other_templates,
    _other_addresses,
)
