"""``show`` and ``list``: single opt-outs on record, with their numbers masked."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

import click

from gateway.assembly import open_current_ledger
from gateway.cli.columns import printable, show, time_words
from gateway.cli.parameters import (
    read_code,
    read_keyword,
    read_number,
    read_time,
    refuse_unknown_store,
)
from gateway.consent import Attempt, OptOut, Status
from gateway.errors import ErrorCode, GatewayError
from gateway.ledger.search import Criteria
from gateway.phone_number import mask_phone_numbers
from gateway.settings import Settings

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# More opt-outs of one number than anybody reads.
_MOST_OF_A_NUMBER = 20


@click.command(name="show")
@click.argument("what", metavar="ID|NUMBER")
@click.pass_obj
def show_one(environ: Mapping[str, str], what: str) -> None:
    """Show an opt-out, or all of a phone number, with every attempt.

    Phone numbers are masked, except the one that you give. GET /v1/opt-outs/ID shows them whole.

    \b
    Example:
      python -m gateway show 9995550123
      python -m gateway show 3f0b7a52-0d5c-4a55-9d34-7a1d0f6b4c1e
    """
    is_id = _ID.fullmatch(what.lower())
    number = None if is_id else read_number(what)
    ledger = open_current_ledger(Settings.from_env(environ))
    if number is None:
        opt_out = ledger.find(what.lower())
        found = [opt_out] if opt_out else []
    else:
        found = ledger.search(Criteria(phone_number=number), _MOST_OF_A_NUMBER)
    if not found:
        what_is_missing = "with this id" if is_id else "of this number"
        raise GatewayError(ErrorCode.NOT_FOUND, f"No opt-out {what_is_missing} is on record.")
    for position, opt_out in enumerate(found):
        if position:
            click.echo()
        for topic, text in _facts(opt_out, number):
            show(topic, [text])
        show("attempts", map(_attempt_words, ledger.attempts_of(opt_out.id)))
    if len(found) == _MOST_OF_A_NUMBER:
        click.echo(f"\nThese are the newest {_MOST_OF_A_NUMBER}.")


@click.command(name="list")
@click.option(
    "--status", type=click.Choice([status.value for status in Status]), help="Only this status."
)
@click.option("--store", metavar="KEYWORD", type=read_keyword, help="Only this store.")
@click.option("--code", metavar="CODE", type=read_code, help="Only this error code.")
@click.option("--source", metavar="SOURCE", help="Only this source, like webhook:shop.")
@click.option("--reference", metavar="TEXT", help="Only this reference.")
@click.option("--number", metavar="NUMBER", type=read_number, help="Only this phone number.")
@click.option("--since", metavar="TIME", type=read_time, help="Received at or after this time.")
@click.option("--until", metavar="TIME", type=read_time, help="Received before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Maximum number to list.",
)
@click.pass_obj
def list_newest(
    environ: Mapping[str, str],
    *,
    status: str | None,
    store: str | None,
    code: ErrorCode | None,
    source: str | None,
    reference: str | None,
    number: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> None:
    """List the newest opt-outs: all, or those that match every option.

    \b
    Example:
      python -m gateway list --status failed --store PIZZA
    """
    settings = Settings.from_env(environ)
    refuse_unknown_store(settings, store)
    criteria = Criteria(
        phone_number=number,
        store=store,
        status=status,
        reference=reference,
        source=source,
        code=code,
        since=since,
        until=until,
    )
    found = open_current_ledger(settings).search(criteria, limit)
    for opt_out in found:
        click.echo(printable(_line(opt_out, number)))
    if not found:
        click.echo("No opt-outs match.")
    elif len(found) == limit:
        click.echo(f"These are the newest {limit}; --limit shows more.")


def _line(opt_out: OptOut, known_number: str | None) -> str:
    came_in = time_words(opt_out.created_at)
    number = _number_words(opt_out, known_number)
    error = opt_out.error.code if opt_out.error else ""
    head = f"{came_in}  {opt_out.id}  {opt_out.status:10}  {number:10}  {opt_out.store:10}"
    return f"{head}  {opt_out.source}  {error}".rstrip()


def _facts(opt_out: OptOut, known_number: str | None) -> Iterator[tuple[str, str]]:
    yield "opt-out", opt_out.id
    already = ", as it was before" if opt_out.already_opted_out else ""
    yield "status", f"{opt_out.status}{already}"
    yield "phone number", _number_words(opt_out, known_number)
    if opt_out.phone_number is None:
        yield "as it came", _masked_digits(opt_out.phone_number_received or "") or "none came"
    yield "store", opt_out.store
    yield "source", opt_out.source
    for topic, text in (
        ("reference", opt_out.reference and mask_phone_numbers(opt_out.reference)),
        ("reason", opt_out.reason and mask_phone_numbers(opt_out.reason)),
        ("means", opt_out.means),
        ("request id", opt_out.request_id),
        ("delivery id", opt_out.delivery_id),
    ):
        if text is not None:
            yield topic, text
    if opt_out.error:
        yield "error", f"{opt_out.error.code}: {mask_phone_numbers(opt_out.error.detail)}"
    for topic, moment in (
        ("requested", opt_out.requested_at),
        ("received", opt_out.created_at),
        ("opted out", opt_out.opted_out_at),
        ("next attempt", opt_out.next_attempt_at),
    ):
        if moment is not None:
            yield topic, time_words(moment)


def _number_words(opt_out: OptOut, known_number: str | None) -> str:
    if opt_out.phone_number is None:
        return "unusable"
    is_known = opt_out.phone_number == known_number
    return opt_out.phone_number if is_known else mask_phone_numbers(opt_out.phone_number)


def _masked_digits(text: str) -> str:
    """All but the last four digits as asterisks; the rest shows what makes a number unusable."""
    return re.sub(r"\d(?=(?:\D*\d){4})", "*", text)


def _attempt_words(attempt: Attempt) -> str:
    started = time_words(attempt.started_at)
    if attempt.ended_at is None:
        return f"{started}  not ended, or its process died"
    seconds = (attempt.ended_at - attempt.started_at).total_seconds()
    words = [f"{started}  {attempt.outcome} after {seconds:.1f} s"]
    if attempt.http_status is not None:
        words.append(f"HTTP {attempt.http_status}")
    if attempt.crmtext:
        said = " ".join(filter(None, [attempt.crmtext.status, attempt.crmtext.message]))
        words.append(f"CRM Text said: {mask_phone_numbers(said)}")
    return ", ".join(words)
