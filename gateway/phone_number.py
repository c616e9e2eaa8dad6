"""Phone numbers: the one reading that every way into the gateway shares, and their masking."""

import re

LONGEST = 32
_SEPARATOR = r"[ \u00a0\-.()/]"
US_NUMBER = re.compile(rf"(?:\+?1{_SEPARATOR}*)?(\(?[0-9](?:{_SEPARATOR}*[0-9]){{9}})")
_LIKE_A_NUMBER = re.compile(rf"\d(?:{_SEPARATOR}*\d){{9,}}")


class UnusablePhoneNumber(ValueError):
    """The value is no US phone number; the message says why without repeating the value."""


def read_phone_number(value: object) -> str:
    """The 10 ASCII digits of a US number given as text in any usual spelling, or as an integer.

    Raises UnusablePhoneNumber for everything else: a number is refused, never repaired, because
    a guess would opt out another person.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnusablePhoneNumber("must be a text or an integer")
    text = str(value)
    if len(text) > LONGEST:
        raise UnusablePhoneNumber(f"is longer than {LONGEST} characters")
    text = text.strip()
    if text[:4].lower() == "tel:":
        text = text[4:]
    match = US_NUMBER.fullmatch(text)
    if match is None:
        raise UnusablePhoneNumber(_what_is_wrong(text))
    return "".join(filter(str.isdigit, match[1]))


def mask_phone_numbers(text: str) -> str:
    """The text with everything that looks like a full phone number cut to its last four digits."""
    return _LIKE_A_NUMBER.sub(lambda match: "******" + match[0][-4:], text)


def _what_is_wrong(text: str) -> str:
    if not text:
        return "is empty"
    if text.startswith("+") and not text.startswith("+1"):
        return "is of another country; only US numbers (+1) can be opted out"
    if re.search(r"[^\W\d_]", text):
        return "holds letters; give the 10 digits of a US number and nothing else"
    digits = sum(character in "0123456789" for character in text)
    if digits not in (10, 11):
        return f"has {digits} digits; a US number has 10, or 11 with the leading 1"
    return "is not in a usual spelling of a US number: 10 digits, perhaps with +1 before them"
