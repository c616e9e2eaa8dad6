"""``status``: what is on record and waiting, what webhooks sent, and whether a worker is there."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime

import click

from gateway.assembly import open_current_ledger
from gateway.cli.columns import show, time_words
from gateway.ledger.search import Summary
from gateway.ledger.webhook_messages import Activity, Count, read_activity
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
    settings = Settings.from_env(context.obj)
    ledger = open_current_ledger(settings)
    summary = ledger.summary()
    found = read_activity(ledger.engine)
    # Those that are configured, and those that have left a trace.
    sources = dict.fromkeys([*settings.webhook_sources, *sorted(found)])
    webhooks = {source: found.get(source, Activity()) for source in sources}
    if as_json:
        click.echo(json.dumps(_members(summary, webhooks), indent=2))
    else:
        _show(summary, webhooks)
    context.exit(1 if _is_silent(summary) else 0)


def _show(summary: Summary, webhooks: Mapping[str, Activity]) -> None:
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
    show("webhooks", _webhook_lines(webhooks, summary.now))
    show("worker", [_worker_words(summary)])


def _members(summary: Summary, webhooks: Mapping[str, Activity]) -> Mapping[str, object]:
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
        "webhooks": [
            {
                "source": source,
                "accepted": _count_members(activity.accepted),
                "refused": _count_members(activity.refused_for_any_reason)
                | {"reasons": {reason: one.number for reason, one in activity.refused.items()}},
                "ignored": _count_members(activity.ignored),
            }
            for source, activity in webhooks.items()
        ],
        "worker": {
            "last_seen_at": time_words(seen_at) if seen_at else None,
            "is_silent": _is_silent(summary),
        },
    }


def _count_members(count: Count) -> dict[str, object]:
    return {"count": count.number, "last_at": time_words(count.last_at) if count.last_at else None}


def _webhook_lines(webhooks: Mapping[str, Activity], now: datetime) -> Iterator[str]:
    for source, activity in webhooks.items():
        accepted, ignored = (
            _count_words(activity.accepted, now),
            _count_words(activity.ignored, now),
        )
        refused = _count_words(activity.refused_for_any_reason, now)
        reasons = [f"{count.number} {reason}" for reason, count in sorted(activity.refused.items())]
        refused += ": " * bool(reasons) + ", ".join(reasons)
        yield f"{source}: accepted {accepted}; refused {refused}; ignored {ignored}"


def _count_words(count: Count, now: datetime) -> str:
    if count.last_at is None:
        return "0"
    return f"{count.number}, last {_duration((now - count.last_at).total_seconds())} ago"


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
