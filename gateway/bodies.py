"""Which bodies are accepted, and how their bytes are read: strict JSON, and forms.

JSON must be UTF-8, have each key once, and contain only finite numbers (RFC 8259).
"""

import json
import math
from codecs import BOM_UTF8
from enum import StrEnum
from urllib.parse import parse_qsl

from gateway.errors import ErrorCode, GatewayError

LARGEST_REQUEST = 64 * 1024
LARGEST_WEBHOOK = 1024 * 1024
_MOST_FIELDS = 1000


class BodyFormat(StrEnum):
    """How a body is written."""

    JSON = "json"
    FORM = "form"


def check_media_type(
    content_type: str, content_encoding: str, written_as: BodyFormat, *, may_lack_type: bool = False
) -> None:
    """Raises GatewayError (unsupported_media_type) unless the headers describe such a body."""
    if content_encoding:
        raise _unsupported("Send the body without a Content-Encoding.")
    media_type = content_type.partition(";")[0].strip().lower()
    if may_lack_type and not media_type:
        return
    if written_as is BodyFormat.FORM:
        if media_type != "application/x-www-form-urlencoded":
            raise _unsupported("Send 'Content-Type: application/x-www-form-urlencoded'.")
        return
    is_json = media_type.startswith("application/") and media_type.endswith("+json")
    if not (is_json or media_type == "application/json"):
        raise _unsupported("Send 'Content-Type: application/json'.")


def too_large(limit: int) -> GatewayError:
    """What to raise about a body of more than ``limit`` bytes."""
    what = f"The body is larger than {limit // 1024} KiB, the most that is accepted here."
    return GatewayError(ErrorCode.PAYLOAD_TOO_LARGE, what)


def read_json(body: bytes) -> object:
    """The value of one JSON document.

    Raises GatewayError (invalid_json) for everything that two readers could understand
    differently or that exhausts the parser; the detail gives the place, never the content.
    """
    if not body.strip():
        raise GatewayError(ErrorCode.INVALID_JSON, "The body is empty; it must be JSON.")
    if body.startswith(BOM_UTF8):
        raise _invalid("it begins with a byte order mark; send it without one")
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _invalid(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise _invalid(f"{error.msg.lower().removesuffix(' at')} at {place}") from None
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    except ValueError as error:
        raise _invalid(str(error)) from None


def read_form(body: bytes) -> list[tuple[str, str]]:
    """Names and values in the order in which they came, blank values and repeated names too.

    Raises ValueError if names and values are not UTF-8, or for more than 1000 fields.
    """
    return parse_qsl(
        body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
    )


def _invalid(what: str) -> GatewayError:
    return GatewayError(ErrorCode.INVALID_JSON, f"The body is not valid JSON: {what}.")


def _unsupported(what: str) -> GatewayError:
    return GatewayError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, what)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has the same key twice")
    return members


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        raise ValueError("an integer has too many digits") from None


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_finite,
    parse_constant=_no_constant,
)
