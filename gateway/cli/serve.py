"""The processes besides the web: ``worker`` and ``release``."""

import logging
import logging.config
import signal
from collections.abc import Mapping
from threading import Thread

import click

from gateway.assembly import make_worker, open_ledger
from gateway.ledger.migrations import is_newer
from gateway.ledger.migrations.upgrade import Upgrade, upgrade
from gateway.logs import configuration
from gateway.settings import Settings

_log = logging.getLogger(__name__)


@click.command()
@click.pass_obj
def worker(environ: Mapping[str, str]) -> None:
    """Deliver accepted opt-outs in the background, until SIGTERM.

    \b
    Example:
      python -m gateway worker
    """
    settings = Settings.from_env(environ)
    logging.config.dictConfig(configuration(settings.log_level))
    for warning in settings.warnings:
        _log.warning("settings warning", extra={"why": warning})
    running = make_worker(settings, open_ledger(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: the signal may meet this one in the middle of waiting for that very stop.
        signal.signal(number, lambda *_: Thread(target=running.stop).start())
    running.run()


@click.command()
@click.pass_obj
def release(environ: Mapping[str, str]) -> None:
    """Create or upgrade the database tables.

    \b
    Example:
      python -m gateway release
    """
    settings = Settings.from_env(environ)
    logging.config.dictConfig(configuration(settings.log_level))
    done = upgrade(open_ledger(settings).engine)
    click.echo(_upgrade_words(done))


def _upgrade_words(done: Upgrade) -> str:
    if done.before is None:
        return f"Created the database tables, version {done.after}."
    if done.before != done.after:
        return f"Upgraded the database tables from version {done.before} to {done.after}."
    if is_newer(done.before):
        return f"Nothing to do: the database tables are of a newer release, version {done.before}."
    return f"Nothing to do: the database tables are up to date, version {done.after}."
