"""``check``: whether the settings are complete, what they say, and whether all answers."""

import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from gateway.accounts import ApiKey
from gateway.assembly import open_crmtext, open_current_ledger
from gateway.cli.columns import show
from gateway.cli.parameters import read_number
from gateway.consent import LookUp
from gateway.errors import LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.settings import Settings

# The example in CRM Text's documentation; its area code is not assigned.
_NOBODYS_NUMBER = "9995551234"
_THREADS = 8
_LONGEST_WAIT_SECONDS = 5


@click.command()
@click.option("--live", is_flag=True, help="Also ask the database, and CRM Text for each store.")
@click.option(
    "--number",
    metavar="NUMBER",
    type=read_number,
    default=_NOBODYS_NUMBER,
    help="The customer that --live looks up, instead of an unassigned number.",
)
@click.pass_context
def check(context: click.Context, *, live: bool, number: str) -> None:
    """Check all settings and show the result.

    With --live the exit code is 1 if the database cannot be used, or if CRM Text does not answer
    for a store. A customer is looked up there; nothing is changed, and no message is sent.

    \b
    Example:
      python -m gateway check --live
    """
    settings = Settings.from_env(context.obj)
    warnings = [*settings.warnings, *_host_warnings(settings)]
    _show_settings(settings)
    show("warnings", warnings)
    complete = f"The settings are complete{', but see the warnings' if warnings else ''}"
    if not live:
        click.echo(f"{complete}; the database and CRM Text were not asked (use --live).")
        return
    click.echo()
    ledger = _show_database(settings)
    answers = _look_up_everywhere(settings, ledger, number)
    show("CRM Text", [f"{store}: {_answer_words(answer)}" for store, answer in answers.items()])
    if ledger is None or not all(map(_has_answered, answers.values())):
        click.echo(f"{complete}, but not everything can be used.")
        context.exit(1)
    click.echo(f"{complete}. The database can be written, and CRM Text answers for every store.")


def _show_settings(settings: Settings) -> None:
    rate = settings.crmtext_calls_per_second
    is_sqlite = settings.database_url.get_backend_name() == "sqlite"
    first, *others = (f"{store.keyword}, user {store.username}" for store in settings.stores)
    show("stores", [f"{first}, the default", *others])
    show("API keys", map(_key_words, settings.api_keys))
    show("CRM Text", [f"{settings.crmtext_url}, {settings.crmtext_timeout_seconds} s a call"])
    show("rate limit", [f"{rate:g} calls a second" if rate else "none"])
    show("database", ["SQLite, for one machine" if is_sqlite else "Postgres"])
    show("delivery", [f"{settings.delivery_days:g} days"])
    show("listens on", [f"{settings.host}, port {settings.port}"])
    show("public URL", [settings.public_url or "none"])
    sources = settings.webhook_sources.values()
    show(
        "webhooks",
        [f"{source.name} ({source.recipe or 'no recipe'})" for source in sources] or ["none"],
    )


def _host_warnings(settings: Settings) -> Sequence[str]:
    """Not a fault, since the gateway may run on another machine, which knows the name."""
    try:
        socket.getaddrinfo(settings.host, settings.port)
    except OSError as error:
        what = f"HOST: {settings.host} is not the name of a machine that is known here"
        return [f"{what} ({error.strerror}); set it to an address that the gateway listens on"]
    return []


def _key_words(key: ApiKey) -> str:
    stores = ["all stores"] if key.stores is None else sorted(key.stores)
    return ", ".join([key.name, *stores, *(f"may {right}" for right in sorted(key.rights))])


def _show_database(settings: Settings) -> Ledger | None:
    """The ledger, if it can be written."""
    try:
        ledger = open_current_ledger(settings)
        ledger.check_writable()
    except LedgerUnavailable as error:
        show("database", [error.detail])
        return None
    show("database", ["can be written"])
    return ledger


def _look_up_everywhere(
    settings: Settings, ledger: Ledger | None, number: str
) -> Mapping[str, LookUp]:
    """What CRM Text says about the number, by store; with the ledger, within the rate limit."""
    crmtext = open_crmtext(settings)

    def look_up(store: str) -> LookUp:
        if ledger is not None:
            time.sleep(ledger.turn(patience_seconds=_LONGEST_WAIT_SECONDS) or 0)
        return crmtext.look_up(number, store)

    keywords = [store.keyword for store in settings.stores]
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(keywords, pool.map(look_up, keywords), strict=True))


def _has_answered(answer: LookUp) -> bool:
    """Whether CRM Text took the credentials: to refuse the customer it had to."""
    return answer.failure is None or answer.failure.is_refusal


def _answer_words(answer: LookUp) -> str:
    if answer.failure is None:
        return "answers, and knows the customer"
    if _has_answered(answer):
        return f"answers ({answer.failure.code})"
    return f"{answer.failure.code}: {answer.failure.detail}"
