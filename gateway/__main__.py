"""The commands: ``python -m gateway --help``."""

import os

from gateway.cli.commands import gateway


def main() -> None:
    """Run the command on the command line and exit with its code."""
    gateway(obj=os.environ)


if __name__ == "__main__":
    main()
