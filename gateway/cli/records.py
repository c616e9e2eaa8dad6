"""What is on record: ``status`` shows it, ``retry`` delivers again what failed."""

from collections.abc import Mapping
from datetime import timedelta

import click

from gateway.assembly import open_ledger
from gateway.cli.columns import show
from gateway.cli.parameters import read_keyword
from gateway.errors import ErrorCode, GatewayError, LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations import is_current
from gateway.ledger.search import Summary
from gateway.settings import Settings

# A worker reports every 5 seconds; after a minute there is none, or it cannot reach the database.
_SILENT_AFTER_SECONDS = 60


@click.command()
@click.pass_obj
def status(environ: Mapping[str, str]) -> None:
    """Show what is on record and what is waiting.

    \b
    Example:
      python -m gateway status
    """
    summary = _open_current_ledger(Settings.from_env(environ)).summary()
    counted = sorted(summary.opt_outs.items())
    show("opt-outs", [f"{n:>9} {state:9} {source}" for (state, source), n in counted] or ["none"])
    errors = sorted(summary.errors.items())
    lines = [f"{n:>9} {state:9} {code} {store}" for (state, code, store), n in errors]
    show("errors", lines or ["none"])
    oldest = f", the oldest for {_duration(summary.oldest_pending_seconds)}"
    show("pending", [f"{summary.pending}{oldest if summary.pending else ''}"])
    show("worker", [_worker_words(summary)])


def _read_code(text: str) -> ErrorCode:
    if text in list(ErrorCode):
        return ErrorCode(text)
    raise click.BadParameter("not an error code; 'status' shows those on record")


@click.command()
@click.option("--all", "all_failed", is_flag=True, help="All that failed.")
@click.option("--code", metavar="CODE", type=_read_code, help="Those with this error code.")
@click.option("--store", metavar="KEYWORD", type=read_keyword, help="Those of this store.")
@click.option(
    "--older-too",
    is_flag=True,
    help="Also those older than DELIVERY_DAYS; their customers may have opted in again since.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.pass_obj
def retry(
    environ: Mapping[str, str],
    *,
    all_failed: bool,
    code: ErrorCode | None,
    store: str | None,
    older_too: bool,
    dry_run: bool,
) -> None:
    """Deliver failed opt-outs again.

    Say which: all, those with an error code, those of a store.

    \b
    Example:
      python -m gateway retry --code crmtext_auth_failed --dry-run
    """
    if not (all_failed or code or store):
        raise click.UsageError("say which: --all, --code CODE or --store KEYWORD")
    if all_failed and code:
        raise click.UsageError("--all and --code exclude each other")
    settings = Settings.from_env(environ)
    if store and settings.store(store) is None:
        known = ", ".join(store.keyword for store in settings.stores)
        raise GatewayError(ErrorCode.INVALID_REQUEST, f"--store: must be one of {known}")
    ledger = _open_current_ledger(settings)
    young = None if older_too else timedelta(days=settings.delivery_days)

    def retry_failed(younger_than: timedelta | None, *, dry_run: bool) -> int:
        return ledger.retry_failed(
            error_code=code, store=store, younger_than=younger_than, dry_run=dry_run
        )

    in_all = retry_failed(None, dry_run=True)
    retried = retry_failed(young, dry_run=dry_run)
    click.echo(f"{_opt_outs(retried)} {'would' if dry_run else 'will'} be delivered again.")
    if in_all > retried:
        click.echo(
            f"{_opt_outs(in_all - retried)} older than {settings.delivery_days:g} days skipped: "
            "the customer may have opted in again since. Use --older-too to include them."
        )


def _open_current_ledger(settings: Settings) -> Ledger:
    ledger = open_ledger(settings)
    if not is_current(ledger.engine):
        what = "The database tables don't match this version; run 'python -m gateway release'."
        raise LedgerUnavailable(what)
    return ledger


def _worker_words(summary: Summary) -> str:
    if summary.worker_seen_at is None:
        return "never seen; start one with 'python -m gateway worker'"
    seconds = (summary.now - summary.worker_seen_at).total_seconds()
    silent = " (silent: is it running?)" if seconds > _SILENT_AFTER_SECONDS else ""
    return f"last seen {_duration(seconds)} ago{silent}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    whole = max(round(seconds), 0)
    return f"{whole} second{'' if whole == 1 else 's'}"


def _opt_outs(count: int) -> str:
    return "1 failed opt-out" if count == 1 else f"{count} failed opt-outs"
