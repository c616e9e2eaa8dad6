"""The commands: ``python -m gateway --help``."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from gateway.accounts import KEY_NAME, STORE_KEYWORD
from gateway.cli import commands
from gateway.errors import ConfigurationError, ErrorCode, GatewayError
from gateway.timestamps import TimestampFormat, read_timestamp

_EPILOG = """\
Settings come from the environment; 'check' says whether they are complete.
'python -m gateway COMMAND --help' has an example of each command.
Exit codes: 0 done, 1 refused or faulty, 2 called in a wrong way.
"""

# argparse has no public name for what add_subparsers returns.
_Group: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        exit_code: int = options.run(options, os.environ)
        sys.stdout.flush()
    except BrokenPipeError:  # as of "… | head": whoever reads this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    except GatewayError as error:
        print(error.detail, file=sys.stderr)
        return 1
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Runs, checks and mends a CRM Text opt-out gateway.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(group, "worker", commands.worker, "deliver what is due, until SIGTERM", "worker")
    _add(group, "release", commands.release, "create or upgrade the ledger's tables", "release")
    _add_make_key(group)
    _add(group, "check", commands.check, "check all settings and say what they come to", "check")
    _add(group, "status", commands.status, "show what is on record and what waits", "status")
    _add_retry(group)
    _add_webhooks(group)
    return parser


def _add(
    group: _Group, name: str, run: commands.Command, what: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"example:\n  python -m gateway {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, refuse_usage=parser.error)
    return parser


def _add_make_key(group: _Group) -> None:
    parser = _add(
        group,
        "make-key",
        commands.make_key,
        "make an API key for a caller, and its entry for GATEWAY_API_KEYS",
        "make-key billing --store PIZZA",
    )
    parser.add_argument("name", metavar="NAME", type=_key_name, help="what to call the caller")
    parser.add_argument(
        "--store",
        dest="stores",
        metavar="KEYWORD",
        type=_keyword,
        nargs="+",
        action="extend",
        default=[],
        help="bind the key to these stores; without it, it may act on all",
    )


def _add_retry(group: _Group) -> None:
    parser = _add(
        group,
        "retry",
        commands.retry,
        "deliver failed opt-outs again: all, or those of an error code or of a store",
        "retry --code crmtext_auth_failed --dry-run",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="all that failed")
    which.add_argument("--code", type=_code, metavar="CODE", help="those with this error code")
    parser.add_argument("--store", type=_keyword, metavar="KEYWORD", help="those of this store")
    parser.add_argument(
        "--older-too",
        action="store_true",
        help="also those older than DELIVERY_DAYS; their customers may have opted in again since",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say how many they are")


def _add_webhooks(group: _Group) -> None:
    webhooks = group.add_parser(
        "webhooks",
        help="list the webhook sources, or check a saved delivery against one",
        description="For setting a webhook source up; neither command needs the database.",
    ).add_subparsers(required=True, metavar="COMMAND")
    _add(
        webhooks,
        "list",
        commands.list_webhooks,
        "show what each configured source expects",
        "webhooks list",
    )
    parser = _add(
        webhooks,
        "check",
        commands.check_webhook,
        "say step by step what the gateway makes of a saved delivery; nothing is recorded",
        "webhooks check shop delivery.http --at 2026-11-22T20:00:00Z",
    )
    parser.add_argument("source", metavar="SOURCE", help="a name from WEBHOOK_SOURCES")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="the delivery in raw HTTP form: header lines, a blank line, the body byte for byte; "
        "a request line at the top is optional; - reads standard input",
    )
    parser.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="judge it as of then (RFC 3339 or Unix seconds), since a saved delivery is old",
    )


def _key_name(text: str) -> str:
    if KEY_NAME.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError("a name has 1 to 64 letters, digits and . _ -")


def _keyword(text: str) -> str:
    if STORE_KEYWORD.fullmatch(text.upper()):
        return text.upper()
    raise argparse.ArgumentTypeError("is not the keyword of a store")


def _code(text: str) -> ErrorCode:
    if text in list(ErrorCode):
        return ErrorCode(text)
    raise argparse.ArgumentTypeError("is no error code; 'status' shows those on record")


def _moment(text: str) -> datetime:
    for written_as in (TimestampFormat.RFC3339, TimestampFormat.UNIX):
        moment = read_timestamp(text, written_as)
        if moment is not None:
            return moment
    raise argparse.ArgumentTypeError("is no time like 2026-11-22T20:00:00Z")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
