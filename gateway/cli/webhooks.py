"""For setting a webhook source up: ``webhooks list`` and ``webhooks check``."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from gateway.cli.columns import show
from gateway.cli.parameters import read_time
from gateway.errors import ErrorCode, GatewayError
from gateway.settings import Settings
from gateway.webhooks.checkup import Result, judge
from gateway.webhooks.description import describe
from gateway.webhooks.saved_message import read_saved_message

_EXIT_CODES = {Result.REFUSED: 1, Result.OPTS_NOBODY_OUT: 3}


@click.group()
def webhooks() -> None:
    """Set a webhook source up: list, check.

    Neither command needs the database.
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
    accepted, 1 if it would be refused, and 3 if it would be accepted, but opts nobody out because
    no number in it is usable.

    SOURCE is a name from WEBHOOK_SOURCES. FILE is the message in raw HTTP form: header lines, a
    blank line, the body byte for byte. A request line at the top is optional; - reads standard
    input.

    \b
    Example:
      python -m gateway webhooks check shop message.http --at 2026-11-22T20:00:00Z
    """
    settings = Settings.from_env(context.obj)
    source = settings.webhook_sources.get(source_name)
    if source is None:
        known = ", ".join(settings.webhook_sources) or "none"
        raise GatewayError(
            ErrorCode.NOT_FOUND, f"There is no such webhook source; configured: {known}"
        )
    saved = read_saved_message(_read_file(file))
    verdict = judge(source, saved, settings.public_url, at or datetime.now(UTC))
    for topic, lines in verdict.steps:
        show(topic, lines)
    context.exit(_EXIT_CODES.get(verdict.result, 0))


def _read_file(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:  # a name with NUL is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise GatewayError(ErrorCode.NOT_FOUND, f"{name} cannot be read: {why}") from None
