"""Phone numbers: the one reading that every way into the gateway shares, and their masking."""

import json
import re
import unicodedata
from dataclasses import dataclass

from gateway.errors import ErrorCode, Failure

LONGEST = 32
_LONGEST_STORED = 255
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # Postgres refuses both
_SEPARATOR = r"[ \u00a0\-.()/]"
US_NUMBER = re.compile(rf"(?:\+?1{_SEPARATOR}*)?(\(?[0-9](?:{_SEPARATOR}*[0-9]){{9}})")
_LIKE_A_NUMBER = re.compile(rf"\d(?:{_SEPARATOR}*\d){{9,}}")


@dataclass(frozen=True)
class PhoneNumber:
    """A number as it came, and what it was read as: ten ASCII digits, or None and the flaw.

    ``received`` is fit to be stored. ``flaw`` continues "the phone number …" and repeats nothing
    of it, but may name a character that does not belong there.
    """

    received: str
    digits: str | None
    flaw: str | None

    @property
    def failure(self) -> Failure | None:
        """Why nobody can be opted out by it; None if the number is usable."""
        if self.flaw is None:
            return None
        return Failure(ErrorCode.INVALID_PHONE_NUMBER, f"The phone number {self.flaw}.")


def read_phone_number(value: object) -> PhoneNumber:
    """Reads a US number given as text in any usual spelling, or as an integer.

    Total: everything else has a flaw. A number is never corrected, because a guess would opt out
    another person.
    """
    digits, flaw = _read(value)
    return PhoneNumber(storable(_as_text(value)), digits, flaw)


def storable(text: str) -> str:
    """What of a sender's text a column takes: 255 characters that every database can keep."""
    return _UNSTORABLE.sub("\ufffd", text[:_LONGEST_STORED])


def mask_phone_numbers(text: str) -> str:
    """The text with everything that looks like a full phone number cut to its last four digits."""
    return _LIKE_A_NUMBER.sub(lambda match: "******" + match[0][-4:], text)


def _as_text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # what an expression can make beside JSON
        return ""


def _read(value: object) -> tuple[str | None, str | None]:
    """The digits, or what is wrong."""
    if value is None:
        return None, "is missing"
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None, "must be a string or an integer"
    text = _as_text(value)
    if len(text) > LONGEST or (not text and value != ""):  # Python does not write every integer
        return None, f"is longer than {LONGEST} characters"
    text = text.strip()
    if text[:4].lower() == "tel:":
        text = text[4:]
    match = US_NUMBER.fullmatch(text)
    if match is None:
        return None, _what_is_wrong(text)
    return "".join(filter(str.isdigit, match[1])), None


def _what_is_wrong(text: str) -> str:
    if not text:
        return "is empty"
    if any(map(str.isalpha, text)):
        return "contains letters; give only the 10 digits of a US number"
    if any(char.isdecimal() and not char.isascii() for char in text):
        return "contains digits other than 0 to 9; write it with the digits 0 to 9"
    if re.match(rf"\+{_SEPARATOR}*[02-9]", text):
        return "is from another country; only US numbers (+1) can be opted out"
    return _wrong_digits(text) or _wrong_characters(text)


def _wrong_digits(text: str) -> str | None:
    digits = re.sub("[^0-9]", "", text)
    if len(digits) == 11 and digits[0] != "1":
        count = "11 digits that do not begin with 1"
    elif len(digits) not in (10, 11):
        count = "1 digit" if len(digits) == 1 else f"{len(digits) or 'no'} digits"
    else:
        return None
    return f"has {count}; a US number has 10, or 11 with the leading 1"


def _wrong_characters(text: str) -> str:
    odd = re.search(rf"(?!{_SEPARATOR})[^0-9+]", text)
    if odd:
        name = f"{unicodedata.name(odd[0], 'UNNAMED CHARACTER')} (U+{ord(odd[0]):04X})"
        return f"contains {name}; between the digits only spaces and - . ( ) / are understood"
    if text.rfind("+") > 0 or re.match(r"\+[^1]", text):
        return "has a + that is not right before the leading 1"
    if text[0] not in "0123456789(+":
        return "does not begin with a digit, ( or +"
    if text[-1] not in "0123456789":
        return "does not end with a digit"
    return "is not a US number as usually written: 10 digits, with or without +1 before them"
