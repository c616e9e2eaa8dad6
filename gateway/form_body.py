"""Bodies of application/x-www-form-urlencoded, the other way beside JSON in which events come."""

from urllib.parse import parse_qsl

_MOST_FIELDS = 1000


def read_form(body: bytes) -> list[tuple[str, str]]:
    """Names and values in the order in which they came, blank values and repeated names too.

    Raises ValueError if names and values are not UTF-8, or for more than 1000 fields.
    """
    return parse_qsl(
        body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
    )
