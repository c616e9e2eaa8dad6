"""What the commands do: print for a person, and answer with an exit code.

Nothing printed holds a secret, but the key that ``make_key`` was asked for, or a full number.
"""

import hashlib
import logging.config
import secrets
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

from gateway.accounts import ApiKey
from gateway.assembly import open_crmtext, open_ledger
from gateway.delivery.attempts import Delivery
from gateway.delivery.worker import THREADS, Worker
from gateway.errors import ErrorCode, GatewayError, LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations import is_current
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.search import Summary
from gateway.logs import configuration
from gateway.settings import Settings
from gateway.webhooks.checkup import Step, describe, judge
from gateway.webhooks.saved_message import read_saved_delivery

Command = Callable[[Namespace, Mapping[str, str]], int]

# A worker signs every 5 seconds; after a minute none is there, or it cannot reach the ledger.
_SILENT_AFTER_SECONDS = 60
_COLUMN = 16


def worker(_: Namespace, environ: Mapping[str, str]) -> int:
    settings = Settings.from_env(environ)
    logging.config.dictConfig(configuration(settings.log_level))
    ledger = open_ledger(settings)
    running = Worker(ledger, Delivery(ledger, open_crmtext(settings), threads=THREADS))
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: the signal may meet this one in the middle of waiting for that very stop.
        signal.signal(number, lambda *_: Thread(target=running.stop).start())
    running.run()
    return 0


def release(_: Namespace, environ: Mapping[str, str]) -> int:
    settings = Settings.from_env(environ)
    logging.config.dictConfig(configuration(settings.log_level))
    upgrade(open_ledger(settings).engine)
    return 0


def make_key(options: Namespace, _: Mapping[str, str]) -> int:
    key = secrets.token_urlsafe(32)
    stores = list(dict.fromkeys(options.stores))
    entry = [options.name, hashlib.sha256(key.encode()).hexdigest(), ",".join(stores)]
    _show("key", [key])
    _show("entry", [":".join(filter(None, entry))])
    print(
        "\nGive the key to its caller; it is shown this once and kept nowhere. Add the entry to\n"
        "GATEWAY_API_KEYS, beside those that are there, and start the gateway again."
    )
    return 0


def check(_: Namespace, environ: Mapping[str, str]) -> int:
    settings = Settings.from_env(environ)
    pace = settings.crmtext_calls_per_second
    is_sqlite = settings.database_url.get_backend_name() == "sqlite"
    first, *others = (store.keyword for store in settings.stores)
    _show("stores", [f"{first}, the default", *others])
    _show("API keys", map(_key_words, settings.api_keys))
    _show("CRM Text", [f"{settings.crmtext_url}, {settings.crmtext_timeout_seconds} s a call"])
    _show("pace", [f"{pace:g} calls a second" if pace else "no limit"])
    _show("database", ["SQLite, for one machine" if is_sqlite else "Postgres"])
    _show("delivery", [f"{settings.delivery_days:g} days"])
    _show("public URL", [settings.public_url or "none"])
    sources = settings.webhook_sources.values()
    _show(
        "webhooks",
        [f"{source.name} ({source.recipe or 'by hand'})" for source in sources] or ["none"],
    )
    print("The settings are complete; the database and CRM Text were not asked.")
    return 0


def status(_: Namespace, environ: Mapping[str, str]) -> int:
    summary = _open_current_ledger(Settings.from_env(environ)).summary()
    counted = sorted(summary.opt_outs.items())
    _show("opt-outs", [f"{n:>9} {state:9} {source}" for (state, source), n in counted] or ["none"])
    errors = sorted(summary.errors.items())
    _show("errors", [f"{n:>9} {state:9} {code}" for (state, code), n in errors] or ["none"])
    oldest = f", the oldest for {_duration(summary.oldest_pending_seconds)}"
    _show("pending", [f"{summary.pending}{oldest if summary.pending else ''}"])
    _show("worker", [_worker_words(summary)])
    return 0


def retry(options: Namespace, environ: Mapping[str, str]) -> int:
    if not (options.all or options.code or options.store):
        options.refuse_usage("say which: --all, --code CODE or --store KEYWORD")
    settings = Settings.from_env(environ)
    if options.store and settings.store(options.store) is None:
        known = ", ".join(store.keyword for store in settings.stores)
        raise GatewayError(ErrorCode.INVALID_REQUEST, f"--store: must be one of {known}")
    ledger = _open_current_ledger(settings)
    young = None if options.older_too else timedelta(days=settings.delivery_days)

    def retry_failed(younger_than: timedelta | None, *, dry_run: bool) -> int:
        return ledger.retry_failed(
            error_code=options.code,
            store=options.store,
            younger_than=younger_than,
            dry_run=dry_run,
        )

    in_all = retry_failed(None, dry_run=True)
    retried = retry_failed(young, dry_run=options.dry_run)
    print(f"{_opt_outs(retried)} {'would be' if options.dry_run else 'will be'} delivered again.")
    if in_all > retried:
        print(
            f"{_opt_outs(in_all - retried)} older than {settings.delivery_days:g} days left alone, "
            "since a consent given after it would be withdrawn; --older-too takes them as well."
        )
    return 0


def list_webhooks(_: Namespace, environ: Mapping[str, str]) -> int:
    settings = Settings.from_env(environ)
    if not settings.webhook_sources:
        print("No webhook sources are configured; WEBHOOK_SOURCES is where they go.")
    for source in settings.webhook_sources.values():
        print(f"[{source.name}]")
        _show_all(describe(source, settings.public_url))
        print()
    return 0


def check_webhook(options: Namespace, environ: Mapping[str, str]) -> int:
    settings = Settings.from_env(environ)
    source = settings.webhook_sources.get(options.source)
    if source is None:
        known = ", ".join(settings.webhook_sources) or "none"
        raise GatewayError(
            ErrorCode.NOT_FOUND, f"There is no such webhook source; configured: {known}"
        )
    saved = read_saved_delivery(_read_file(options.file))
    verdict = judge(source, saved, settings.public_url, options.at or datetime.now(UTC))
    _show_all(verdict.steps)
    return 0 if verdict.is_accepted else 1


def _read_file(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:  # a name with NUL is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise GatewayError(ErrorCode.NOT_FOUND, f"{name} cannot be read: {why}") from None


def _show(topic: str, lines: Iterable[str]) -> None:
    """The topic, and its lines in a column of their own."""
    for position, line in enumerate(lines):
        print(f"{'' if position else topic:{_COLUMN}}{line}")


def _show_all(steps: Sequence[Step]) -> None:
    for topic, lines in steps:
        _show(topic, lines)


def _key_words(key: ApiKey) -> str:
    return f"{key.name}, {'all stores' if key.stores is None else ', '.join(sorted(key.stores))}"


def _open_current_ledger(settings: Settings) -> Ledger:
    ledger = open_ledger(settings)
    if not is_current(ledger.engine):
        what = "The ledger's tables are not those of this release; 'release' makes them."
        raise LedgerUnavailable(what)
    return ledger


def _worker_words(summary: Summary) -> str:
    if summary.worker_seen_at is None:
        return "never gave a sign of life; 'worker' runs one"
    seconds = (summary.now - summary.worker_seen_at).total_seconds()
    silent = " (silent: does one run?)" if seconds > _SILENT_AFTER_SECONDS else ""
    return f"gave its last sign of life {_duration(seconds)} ago{silent}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"


def _opt_outs(count: int) -> str:
    return "1 failed opt-out" if count == 1 else f"{count} failed opt-outs"
