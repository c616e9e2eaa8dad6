"""``python -m gateway.sandbox``: serves the sandbox until it is told to stop."""

import argparse
import json
import signal
import sys
from io import FileIO

from gateway.sandbox import server
from gateway.sandbox.customers import MAGIC_NUMBERS


def _parser() -> argparse.ArgumentParser:
    numbers = "\n".join(
        f"  {number}  {magic.explanation}" for number, magic in MAGIC_NUMBERS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m gateway.sandbox",
        description=server.__doc__,
        epilog=f"numbers that make trouble when they are opted out:\n{numbers}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=8001, type=int, help="0: any free one (%(default)s)")
    return parser


def main() -> None:
    """Serve until SIGTERM or SIGINT, with a JSON line for each call on standard output."""
    parser = _parser()
    options = parser.parse_args()
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    # not sys.stdout: its lock in the hands of a daemon thread makes the interpreter's end a crash
    log = FileIO(sys.stdout.fileno(), "w", closefd=False)
    try:
        sandbox = server.Sandbox(options.host, options.port, log)
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {options.host} port {options.port}: {error}")
    with sandbox:
        log.write(json.dumps({"listening": sandbox.url}).encode() + b"\n")
        signal.sigwait(endings)


if __name__ == "__main__":
    main()
