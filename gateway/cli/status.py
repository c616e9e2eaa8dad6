"""``status``: what is on record, what is waiting, and whether a worker is there."""

import json
from collections.abc import Mapping

import click

from gateway.assembly import open_current_ledger
from gateway.cli.columns import show, time_words
from gateway.ledger.search import Summary
from gateway.settings import Settings

# A worker reports every 5 seconds; after a minute there is none, or it cannot reach the database.
_SILENT_AFTER_SECONDS = 60


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def status(context: click.Context, *, as_json: bool) -> None:
    """Show what is on record and what is waiting.

    The exit code is 1 if no worker was seen within the last minute.

    \b
    Example:
      python -m gateway status
    """
    summary = open_current_ledger(Settings.from_env(context.obj)).summary()
    if as_json:
        click.echo(json.dumps(_members(summary), indent=2))
    else:
        _show(summary)
    context.exit(1 if _is_silent(summary) else 0)


def _show(summary: Summary) -> None:
    counted = sorted(summary.opt_outs.items())
    show("opt-outs", [f"{n:>9} {state:10} {source}" for (state, source), n in counted] or ["none"])
    errors = sorted(summary.errors.items())
    lines = [f"{n:>9} {state:10} {code} {store}" for (state, code, store), n in errors]
    show("errors", lines or ["none"])
    oldest = f", the oldest for {_duration(summary.oldest_pending_seconds)}"
    show("pending", [f"{summary.pending}{oldest if summary.pending else ''}"])
    for store, n in sorted(summary.refused_credentials.items()):
        waiting = "1 opt-out is" if n == 1 else f"{n} opt-outs are"
        show("refused", [f"CRM Text refuses the credentials of {store}; {waiting} undelivered"])
    show("worker", [_worker_words(summary)])


def _members(summary: Summary) -> Mapping[str, object]:
    seen_at = summary.worker_seen_at
    return {
        "opt_outs": [
            {"status": state, "source": source, "count": n}
            for (state, source), n in sorted(summary.opt_outs.items())
        ],
        "errors": [
            {"status": state, "code": code, "store": store, "count": n}
            for (state, code, store), n in sorted(summary.errors.items())
        ],
        "pending": summary.pending,
        "oldest_pending_seconds": round(summary.oldest_pending_seconds),
        "refused_credentials": [
            {"store": store, "count": n} for store, n in sorted(summary.refused_credentials.items())
        ],
        "worker": {
            "last_seen_at": time_words(seen_at) if seen_at else None,
            "is_silent": _is_silent(summary),
        },
    }


def _is_silent(summary: Summary) -> bool:
    return _unseen_seconds(summary) > _SILENT_AFTER_SECONDS


def _unseen_seconds(summary: Summary) -> float:
    if summary.worker_seen_at is None:
        return float("inf")
    return (summary.now - summary.worker_seen_at).total_seconds()


def _worker_words(summary: Summary) -> str:
    if summary.worker_seen_at is None:
        return "never seen; start one with 'python -m gateway worker'"
    silent = " (silent: is it running?)" if _is_silent(summary) else ""
    return f"last seen {_duration(_unseen_seconds(summary))} ago{silent}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    whole = max(round(seconds), 0)
    return f"{whole} second{'' if whole == 1 else 's'}"
