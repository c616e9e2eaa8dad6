"""Webhook sources from TOML, and what they read."""

import json
from collections.abc import Mapping

from gateway.errors import ErrorCode, GatewayError
from gateway.webhooks.config import read_webhook_sources
from gateway.webhooks.signatures import (
    SignedRequest,
)
from gateway.webhooks.source import Reading, WebhookSource
from tests.support.signing import NOW, SECRET, Message

ENVIRONMENT = {"HOOK": "s3cret-of-the-hook", "NEXT": "s3cret-of-next", "EMPTY": "", "BLANK": " "}
BY_HAND = """
[helpdesk]
secret_env = "HOOK"
opt_out = "stop"
phone_numbers = "phone"
signature = {scheme = "hmac", header = "X-Signature"}
"""


def read_sources(
    text: str, *, public_url: str | None = "https://gateway.example.com"
) -> Mapping[str, WebhookSource]:
    return read_webhook_sources(
        text, secrets=ENVIRONMENT, stores=["PIZZA", "TACOS"], public_url=public_url
    )


def make_source(**keys: str | bool) -> WebhookSource:
    """The source by hand with some keys beside, or instead of, its own."""
    lines = ["[helpdesk]", 'secret_env = "HOOK"', 'signature = {scheme="token", header="X-Token"}']
    keys = {"opt_out": "stop", "phone_numbers": "phone", **keys}
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return read_sources("\n".join(lines))["helpdesk"]


def recipe_source(recipe: str, *secrets: str) -> WebhookSource:
    """A source with nothing but the recipe, and with these secrets or a usual one."""
    names = [f"SECRET_{number}" for number, _ in enumerate(secrets or [SECRET])]
    text = f"[{recipe}]\nrecipe = '{recipe}'\nsecret_env = {names}"
    environment = dict(zip(names, secrets or [SECRET], strict=True))
    sources = read_webhook_sources(
        text, secrets=environment, stores=["PIZZA"], public_url="https://gateway.example.com"
    )
    return sources[recipe]


def read(source: WebhookSource, value: object, **headers: str) -> Reading:
    lower = {name.replace("_", "-").lower(): text for name, text in headers.items()}
    return source.read(json.dumps(value).encode(), lower, NOW)


def numbers(reading: Reading) -> list[str | None]:
    return [withdrawal.phone_number.digits for withdrawal in reading.withdrawals]


def read_or_refuse(
    source: WebhookSource, body: bytes, headers: Mapping[str, str]
) -> Reading | ErrorCode:
    """The only two things that can become of a body."""
    try:
        return source.read(body, headers, NOW)
    except GatewayError as error:
        return error.code


def make_request(headers: Mapping[str, str], message: Message) -> SignedRequest:
    lower = {name.lower(): value for name, value in headers.items()}
    return SignedRequest("POST", message.url, lower, message.body)
