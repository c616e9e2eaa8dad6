"""Enums as components of the OpenAPI document, with the meaning of each value."""

from collections.abc import Mapping
from enum import StrEnum

from gateway.consent import Means, Order, Status
from gateway.errors import ERRORS, ErrorCode

MEANINGS: Mapping[type[StrEnum], Mapping[str, str]] = {
    Status: {
        Status.PENDING: "The gateway has it and will deliver it. Nobody needs to do anything.",
        Status.OPTED_OUT: "CRM Text confirmed it.",
        Status.REJECTED: "CRM Text refused it for good (it does not know the customer, for "
        "example), or the number in a webhook was unusable. `error` says why.",
        Status.FAILED: "Not delivered within `DELIVERY_DAYS` (10 by default), and the gateway no "
        "longer tries. `error` says why. A person has to look at it.",
    },
    Means: {
        Means.PHONE_CALL: "They called.",
        Means.VOICEMAIL: "They left a voicemail.",
        Means.WEB_FORM: "They used a form on a web site.",
        Means.EMAIL: "They wrote an email.",
        Means.MAIL: "They wrote a letter.",
        Means.IN_PERSON: "They said so in person.",
        Means.SOCIAL_MEDIA: "They wrote on social media.",
        Means.KEYWORD_REPLY: "They replied to a text message.",
        Means.OTHER: "In another way.",
    },
    Order: {
        Order.NEWEST: "Newest first. This is the default.",
        Order.OLDEST: "Oldest first.",
    },
    ErrorCode: {code: f"{kind.title}." for code, kind in ERRORS.items()},
}


def component(enum: type[StrEnum]) -> dict[str, object]:
    """The schema of an enum. Generators that know them use the descriptions one by one."""
    meanings = MEANINGS[enum]
    values = list(enum)
    return {
        "type": "string",
        "enum": values,
        "description": "\n".join(f"- `{value}`: {meanings[value]}" for value in values),
        "x-enum-descriptions": [meanings[value] for value in values],
    }
