"""A webhook message that was saved to a file, in the form in which HTTP sends it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import ErrorCode, GatewayError
from gateway.webhooks.signatures import HEADER_NAME

_REQUEST_LINE = re.compile(r"(?P<method>[A-Z]+) (?P<target>[!-~]+) HTTP/[0-9.]+")
_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True)
class SavedMessage:
    """What was saved. ``target`` is path and query, None where the file has no request line.

    Header names are in lower case; a header that came several times is joined by commas.
    """

    method: str
    target: str | None
    headers: Mapping[str, str]
    body: bytes


def read_saved_message(content: bytes) -> SavedMessage:
    """Lines of headers, perhaps under a request line, then a blank line, then the body's bytes.

    Raises GatewayError (invalid_request) that names the line at fault, without its text.
    """
    lines, body = _split(content)
    method, target = "POST", None
    first = 1
    match = _REQUEST_LINE.fullmatch(lines[0]) if lines else None
    if match:
        method, target = match["method"], _ORIGIN.sub("", match["target"], count=1)
        first = 2
    headers: dict[str, str] = {}
    for number, line in enumerate(lines[first - 1 :], first):
        name, colon, text = line.partition(":")
        if not (colon and HEADER_NAME.fullmatch(name)):
            raise _unreadable(f"line {number} is not a header like 'Name: text'")
        before = headers.get(name.lower())
        text = text.strip(" \t")
        headers[name.lower()] = text if before is None else f"{before},{text}"
    return SavedMessage(method, target, headers, body)


def _split(content: bytes) -> tuple[list[str], bytes]:
    """The lines before the first blank one, which may end as in HTTP or as in Unix; the rest."""
    lines: list[str] = []
    rest = content
    while True:
        line, end, rest = rest.partition(b"\n")
        if not end:
            raise _unreadable("no blank line after the headers")
        line = line.removesuffix(b"\r")
        if not line:
            return lines, rest
        lines.append(line.decode("latin-1"))


def _unreadable(what: str) -> GatewayError:
    return GatewayError(ErrorCode.INVALID_REQUEST, f"This is not a saved message: {what}.")
