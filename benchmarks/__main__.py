"""``python -m benchmarks [NAME …]``: measures, and prints what came of it as tables."""

import argparse
import os
import platform
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import background, synchronous
from benchmarks.calls import calls
from benchmarks.figures import Figure
from benchmarks.processes import Bench

_RESULTS = Path(__file__).with_name("RESULTS.md")
_BEGIN, _END = "<!-- measured -->", "<!-- /measured -->"
_LIBRARIES = ("flask", "gunicorn", "requests", "sqlalchemy", "psycopg", "marshmallow", "xmltodict")
_MEASUREMENTS: Mapping[str, Callable[[Bench], list[Figure]]] = {
    "calls": calls,
    "https": synchronous.over_https,
    "http": synchronous.over_http,
    "one-caller": synchronous.one_caller,
    "connections": synchronous.connections,
    "waiting": synchronous.waiting,
    "accepting": background.accepting,
    "hanging": background.hanging,
    "backlog": background.backlog,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_MEASUREMENTS))
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    options = parser.parse_args()
    if (options.names and options.write) or not set(options.names) <= set(_MEASUREMENTS):
        parser.error("--write is for all measurements; the names are in --help")
    tables = [_circumstances()]
    for name in options.names or _MEASUREMENTS:
        tables.append(_measure(name, _MEASUREMENTS[name]))
        print(tables[-1], flush=True)
    if options.write:
        measured = f"{_BEGIN}\n" + "\n".join(tables) + _END
        page = _RESULTS.read_text()
        _RESULTS.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: measured, page, flags=re.DOTALL))


def _circumstances() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores ({platform.machine()}), "
        f"load average {os.getloadavg()[0]:.1f} before, Python {platform.python_version()}, "
        f"{libraries}.\n"
    )


def _measure(name: str, measurement: Callable[[Bench], list[Figure]]) -> str:
    bench = Bench()
    try:
        figures = measurement(bench)
    finally:
        bench.close()
    head = ["| figure | value | aim | reached |", "|---|---|---|---|"]
    rows = [*head, *(figure.line() for figure in figures)]
    return f"\n## {name}\n\n{measurement.__doc__}\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
