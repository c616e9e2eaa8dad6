"""The commands: ``python -m gateway --help``."""

import argparse
import logging.config
import os
import signal
import sys
from collections.abc import Sequence

from gateway.delivery import Delivery, open_crmtext, open_ledger
from gateway.errors import ConfigurationError, GatewayError
from gateway.logs import configuration
from gateway.migrations import upgrade
from gateway.settings import Settings
from gateway.worker import THREADS, Worker


def main(arguments: Sequence[str]) -> int:
    command = _parser().parse_args(arguments).command
    try:
        settings = Settings.from_env(os.environ)
        logging.config.dictConfig(configuration(settings.log_level))
        command(settings)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    except GatewayError as error:
        print(error.detail, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    commands = parser.add_subparsers(required=True)
    worker = commands.add_parser("worker", help="deliver what is due, until SIGTERM")
    worker.set_defaults(command=_worker)
    release = commands.add_parser("release", help="create or upgrade the ledger's tables")
    release.set_defaults(command=_release)
    return parser


def _worker(settings: Settings) -> None:
    ledger = open_ledger(settings)
    worker = Worker(ledger, Delivery(ledger, open_crmtext(settings), threads=THREADS))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.run()


def _release(settings: Settings) -> None:
    upgrade(open_ledger(settings).engine)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
