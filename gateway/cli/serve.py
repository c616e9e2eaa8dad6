"""The processes besides the web: ``worker`` and ``release``."""

import logging.config
import signal
from collections.abc import Mapping
from threading import Thread

import click

from gateway.assembly import open_crmtext, open_ledger
from gateway.delivery.attempts import Delivery
from gateway.delivery.worker import THREADS, Worker
from gateway.ledger.migrations.upgrade import upgrade
from gateway.logs import configuration
from gateway.settings import Settings


@click.command()
@click.pass_obj
def worker(environ: Mapping[str, str]) -> None:
    """Deliver what is due, until SIGTERM.

    \b
    Example:
      python -m gateway worker
    """
    settings = Settings.from_env(environ)
    logging.config.dictConfig(configuration(settings.log_level))
    ledger = open_ledger(settings)
    running = Worker(ledger, Delivery(ledger, open_crmtext(settings), threads=THREADS))
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
    upgrade(open_ledger(settings).engine)
