"""For setting a webhook source up: ``webhooks list``, ``webhooks check`` and ``webhooks send``."""

import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
import requests

from gateway.cli.columns import show
from gateway.cli.parameters import read_number, read_time
from gateway.consent import Status
from gateway.errors import ErrorCode, GatewayError
from gateway.settings import Settings
from gateway.webhooks.checkup import Result, judge
from gateway.webhooks.description import describe
from gateway.webhooks.sample import sample_body, signed_headers
from gateway.webhooks.saved_message import read_saved_message
from gateway.webhooks.source import Answer, WebhookSource

_EXIT_CODES = {
    Result.ACCEPTED: 0,
    Result.REFUSED: 1,
    Result.OPTS_NOBODY_OUT: 3,
    Result.IGNORED: 3,
}
_EXAMPLE_NUMBER = "9995551234"  # CRM Text's own; there is no area code 999
_SECONDS_TO_ANSWER = 20
_LONGEST_SHOWN = 2000


@click.group()
def webhooks() -> None:
    """Set a webhook source up: list, check, send.

    None of them needs the database.
    """


@webhooks.command(name="list")
@click.pass_obj
def list_sources(environ: Mapping[str, str]) -> None:
    """Show what each configured source expects.

    \b
    Example:
      python -m gateway webhooks list
    """
    settings = Settings.from_env(environ)
    if not settings.webhook_sources:
        click.echo("No webhook sources configured. Set WEBHOOK_SOURCES.")
    for source in settings.webhook_sources.values():
        click.echo(f"[{source.name}]")
        for topic, lines in describe(source, settings.public_url):
            show(topic, lines)
        click.echo()


@webhooks.command()
@click.argument("source_name", metavar="SOURCE")
@click.argument("file")
@click.option(
    "--at",
    metavar="TIME",
    type=read_time,
    help="Judge the message as of this time (RFC 3339 or Unix seconds), since a saved one is old.",
)
@click.pass_context
def check(context: click.Context, source_name: str, file: str, at: datetime | None) -> None:
    """Show what the gateway would do with a saved message.

    It is shown step by step, and nothing is recorded. The exit code is 0 if the message would be
    accepted and opts somebody out, 1 if it would be refused, and 3 if it would be accepted, but
    opts nobody out: nothing in it is an opt-out, or no number in it is usable.

    SOURCE is a name from WEBHOOK_SOURCES. FILE is the message in raw HTTP form: header lines, a
    blank line, the body byte for byte. A request line at the top is optional; - reads standard
    input.

    \b
    Example:
      python -m gateway webhooks check shop message.http --at 2026-11-22T20:00:00Z
    """
    settings = Settings.from_env(context.obj)
    source = _find_source(settings, source_name)
    saved = read_saved_message(_read_file(file))
    verdict = judge(source, saved, settings.public_url, at or datetime.now(UTC))
    for topic, lines in verdict.steps:
        show(topic, lines)
    context.exit(_EXIT_CODES[verdict.result])


def _read_address(text: str) -> str:
    if text.startswith(("http://", "https://")):
        return text.rstrip("/")
    raise click.BadParameter("not an address like http://127.0.0.1:8000")


@webhooks.command()
@click.argument("source_name", metavar="SOURCE")
@click.option(
    "--to",
    metavar="URL",
    type=_read_address,
    help="The gateway's address; default: PUBLIC_URL, or else http://127.0.0.1:PORT.",
)
@click.option(
    "--number",
    metavar="NUMBER",
    type=read_number,
    default=_EXAMPLE_NUMBER,
    help="Whom the sample opts out; default: an unassigned number.",
)
@click.option("--body", metavar="FILE", help="Send this body instead; - reads standard input.")
@click.pass_context
def send(
    context: click.Context, source_name: str, to: str | None, number: str, body: str | None
) -> None:
    """Sign a sample message and send it to the running gateway.

    What the gateway accepts is on record and is delivered to CRM Text like any other opt-out. The
    exit code is 0 if somebody is opted out, 1 if the message was refused or nobody answered, and 3
    if it was accepted, but opts nobody out.

    SOURCE is a name from WEBHOOK_SOURCES. Each recipe has a sample; a source without one needs
    --body.

    \b
    Example:
      python -m gateway webhooks send shop --to http://127.0.0.1:8000
    """
    settings = Settings.from_env(context.obj)
    source = _find_source(settings, source_name)
    now, message_id = datetime.now(UTC), uuid.uuid4().hex
    content = _read_file(body) if body else sample_body(source, number, message_id, now)
    if content is None:
        what = f"[{source.name}] has no recipe and so no sample; pass a body with --body FILE."
        raise click.UsageError(what)
    path = f"/v1/webhooks/{source.name}"
    # What is signed is the address that the gateway expects, wherever this goes.
    signed_url = f"{settings.public_url or ''}{path}"
    try:
        headers = signed_headers(source, signed_url, content, message_id, now)
    except ValueError:
        what = "The body cannot be signed: it is not a form."
        raise GatewayError(ErrorCode.INVALID_REQUEST, what) from None
    address = f"{to or settings.base_url}{path}"
    show("sent", [f"POST {address}", f"{len(content)} bytes, signed with {source.secret_env[0]}"])
    answer = _post(address, content, headers)
    show(
        "answer",
        [f"{answer.status_code} {answer.reason}", *answer.text[:_LONGEST_SHOWN].splitlines()],
    )
    result = _result_of(source, answer)
    show("result", [result])
    context.exit(_EXIT_CODES[result])


def _post(address: str, body: bytes, headers: Mapping[str, str]) -> requests.Response:
    try:
        return requests.post(
            address,
            data=body,
            headers=headers,
            timeout=_SECONDS_TO_ANSWER,
            allow_redirects=False,
            auth=lambda request: request,  # without it a .netrc would replace the token
        )
    except (requests.RequestException, ValueError) as error:
        what = f"No answer from {address} ({type(error).__name__}); is the gateway running there?"
        raise GatewayError(ErrorCode.NOT_FOUND, what) from None


def _result_of(source: WebhookSource, answer: requests.Response) -> Result:
    if not answer.ok:
        return Result.REFUSED
    if source.answer is Answer.TWIML:  # it tells no more
        return Result.ACCEPTED
    try:
        statuses = [one["status"] for one in answer.json()["opt_outs"]]
    except (ValueError, LookupError, TypeError):
        return Result.REFUSED  # whoever that was, it was no gateway
    if not statuses:
        return Result.IGNORED
    return Result.OPTS_NOBODY_OUT if set(statuses) == {Status.REJECTED} else Result.ACCEPTED


def _find_source(settings: Settings, name: str) -> WebhookSource:
    source = settings.webhook_sources.get(name)
    if source is None:
        known = ", ".join(settings.webhook_sources) or "none"
        what = f"there is no such webhook source; configured: {known}"
        raise click.BadParameter(what, param_hint="SOURCE")
    return source


def _read_file(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:  # a name with NUL is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise GatewayError(ErrorCode.NOT_FOUND, f"{name} cannot be read: {why}") from None
