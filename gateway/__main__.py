"""The commands: ``python -m gateway --help``."""

import os
import signal
import sys


def main() -> None:
    """Run the command on the command line and exit with its code."""
    if sys.argv[1:2] == ["worker"]:
        # Importing takes a second, and a worker that is stopped in it has left nothing undone.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
    from gateway.cli.commands import gateway  # noqa: PLC0415 - see above

    gateway(obj=os.environ)


if __name__ == "__main__":
    main()
