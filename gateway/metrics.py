"""What this process counts. What happened to opt-outs is read from the ledger instead, at scrape.

No label holds a number, an id or anything that a caller may choose.
"""

import os
import struct
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector


class ValuesInAFile:
    """What a process counts, in memory, and in a file from which any process can serve it.

    Takes the place of prometheus_client's MmapedDict, and its files are the same. That one writes
    to mapped memory, and where the disk is full the kernel ends a process that does so. Here a file
    that cannot be written is only out of date, until it can be written again.
    """

    def __init__(self, filename: str) -> None:
        self._content = bytearray(struct.pack("=ii", 8, 0))  # begins with its own length
        self._places: dict[str, int] = {}
        self._is_complete = False
        self._file = -1
        with suppress(OSError):
            self._file = os.open(filename, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.ftruncate(self._file, 8)  # a reader expects a length, and 0 will do

    def read_value(self, key: str) -> tuple[float, float]:
        """The value of a key and its time; a new key begins with 0."""
        if key not in self._places:
            self._add(key)
        value, timestamp = struct.unpack_from("=dd", self._content, self._places[key])
        return value, timestamp

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if key not in self._places:
            self._add(key)
        place = self._places[key]
        struct.pack_into("=dd", self._content, place, value, timestamp)
        if self._is_complete:
            self._write(place, place + 16)
        else:
            self._write(8, len(self._content))
            self._write(0, 8)  # last, so that whoever reads believes only what is there

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _add(self, key: str) -> None:
        name = key.encode()
        padded = name + b" " * (8 - (len(name) + 4) % 8)
        self._places[key] = len(self._content) + 4 + len(padded)
        self._content += struct.pack(f"=i{len(padded)}sdd", len(name), padded, 0.0, 0.0)
        struct.pack_into("=i", self._content, 0, len(self._content))
        self._is_complete = False

    def _write(self, start: int, end: int) -> None:
        try:
            written = os.pwrite(self._file, self._content[start:end], start)
        except OSError:
            written = 0
        self._is_complete = written == end - start


# Before the first metric is made: that opens the file.
values.MmapedDict = ValuesInAFile  # type: ignore[assignment, attr-defined]

REQUESTS = Histogram(
    "http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25),
)
UPSTREAM = Histogram(
    "crmtext_call_duration_seconds",
    "Duration of calls to CRM Text, by outcome.",
    ["outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 6, 10, 20),
)
PACE = Histogram(
    "crmtext_pace_wait_seconds",
    "Time a call waited for its turn within CRMTEXT_RATE.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4),
)
REFUSALS = Counter(
    "webhook_refusals",
    "Webhook messages that were refused, by source and reason.",
    ["source", "reason"],
)


def collect_into(registry: CollectorRegistry) -> None:
    """Registers all of the above: of all web processes under gunicorn, else of this one."""
    try:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError:  # there is no folder that processes share
        for metric in (REQUESTS, UPSTREAM, PACE, REFUSALS):
            registry.register(metric)
