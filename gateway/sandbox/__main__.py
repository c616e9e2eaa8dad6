"""``python -m gateway.sandbox``: serves the sandbox until it is stopped."""

import json
import signal
import sys
from io import FileIO

import click

from gateway.sandbox.customers import MAGIC_NUMBERS
from gateway.sandbox.server import Sandbox

_NUMBERS = "\n".join(f"  {number}  {magic.explanation}" for number, magic in MAGIC_NUMBERS.items())


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"\b\nOpting out these numbers simulates a particular answer:\n{_NUMBERS}",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8001,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 is any free one.",
)
def main(host: str, port: int) -> None:
    """Serve a sandbox that stands in for CRM Text: no text message is ever sent.

    It accepts every auth string, unless the password is 'wrong'. A number that it has not seen
    before is an opted-in customer. Customers are kept in memory, until the sandbox stops.

    \b
    What it holds, and how to make it forget:
      curl http://127.0.0.1:8001/customers
      curl -X POST http://127.0.0.1:8001/reset

    Each call is a JSON line on standard output.
    """
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    # not sys.stdout: its lock in the hands of a daemon thread makes the interpreter's end a crash
    log = FileIO(sys.stdout.fileno(), "w", closefd=False)
    try:
        sandbox = Sandbox(host, port, log)
    except OSError as error:
        why = error.strerror or error
        raise click.ClickException(f"cannot listen on {host} port {port}: {why}") from None
    with sandbox:
        log.write(json.dumps({"listening": sandbox.url}).encode() + b"\n")
        signal.sigwait(endings)


if __name__ == "__main__":
    main()
