"""``retry``: delivers again what failed."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import click

from gateway.assembly import open_current_ledger
from gateway.cli.columns import show
from gateway.cli.parameters import read_code, read_keyword, refuse_unknown_store
from gateway.errors import ErrorCode
from gateway.ledger.search import FailedOptOuts
from gateway.settings import Settings

# So many in one transaction: others must not wait for it, and none is lost if it breaks off.
_BATCH = 2_000
_SKIPPED = "the customer may have opted in again since; --older-too includes them"


@click.command()
@click.option("--all", "all_failed", is_flag=True, help="All that failed.")
@click.option("--code", metavar="CODE", type=read_code, help="Those with this error code.")
@click.option("--store", metavar="KEYWORD", type=read_keyword, help="Those of this store.")
@click.option(
    "--older-too",
    is_flag=True,
    help="Also those given up over DELIVERY_DAYS ago; the customers may have opted in again since.",
)
@click.option("--dry-run", is_flag=True, help="Only show how many there are.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@click.pass_obj
def retry(
    environ: Mapping[str, str],
    *,
    all_failed: bool,
    code: ErrorCode | None,
    store: str | None,
    older_too: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Deliver failed opt-outs again.

    Say which: all, those with an error code, those of a store. Shows how many there are, by error
    code, and asks before it delivers them.

    \b
    Example:
      python -m gateway retry --code crmtext_auth_failed --dry-run
    """
    if not (all_failed or code or store):
        raise click.UsageError("say which: --all, --code CODE or --store KEYWORD")
    if all_failed and code:
        raise click.UsageError("--all and --code exclude each other")
    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask on; use --yes, or --dry-run to look")
    settings = Settings.from_env(environ)
    refuse_unknown_store(settings, store)
    days = settings.delivery_days
    of_any_age = FailedOptOuts(code, store)
    which = of_any_age if older_too else replace(of_any_age, given_up_within=timedelta(days=days))
    ledger = open_current_ledger(settings)
    counts = ledger.count_failed(which)
    count = sum(counts.values())
    older = sum(ledger.count_failed(of_any_age).values()) - count
    show("failed", [f"{number:>9} {name}" for name, number in counts.items()] or ["none"])
    if older:
        show("skipped", [f"{older:>9} given up over {days:g} days ago: {_SKIPPED}"])
    if count == 0 or dry_run:
        return
    if not yes:
        click.confirm(f"Deliver {_opt_outs(count)} again?", abort=True)
    retried = 0
    with click.progressbar(length=count, label="retrying", file=sys.stderr) as progress:
        while batch := ledger.retry_failed(which, limit=_BATCH):
            retried += batch
            progress.update(batch)
    click.echo(f"{_opt_outs(retried)} will be delivered again.")


def _opt_outs(count: int) -> str:
    return "1 failed opt-out" if count == 1 else f"{count} failed opt-outs"
