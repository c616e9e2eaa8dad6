"""Log lines: one JSON object each on standard output, with the request's id and no full number."""

import json
import logging
import os
import re
import select
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from gateway.phone_number import mask_phone_numbers

# The id of the request that this thread answers; "-" outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="-")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class JsonFormatter(logging.Formatter):
    """A line of JSON; what a call gives as ``extra`` becomes members of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "request_id": request_id.get(),
        }
        line |= {name: text for name, text in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = mask_phone_numbers(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    # Where gunicorn tells of its own life, a port and a process id look like a number together.
    tells_of_itself = record.name == "gunicorn.error" and record.levelno == logging.INFO
    return text if tells_of_itself else mask_phone_numbers(text)


class WithoutRequests(logging.Filter):
    """gunicorn quotes what it cannot read of a request, and that may be an Authorization header."""

    def filter(self, record: logging.LogRecord) -> bool:
        quoted = re.compile(r"(Invalid request from ip=\S*: [^'\"]*)['\"].*", re.DOTALL)
        record.msg, record.args = quoted.sub(r"\1…", record.getMessage()), ()
        return True


class StandardOutput(logging.Handler):
    """Writes lines to standard output in a thread of its own, so that nobody who logs ever waits.

    A pipe that nobody reads would otherwise stop every request. Up to ``most_waiting`` lines wait;
    further ones are lost, and a line says how many, once there is room for it.
    """

    _FILE = 1
    _SECONDS_TO_END = 2.0

    def __init__(self, most_waiting: int = 5000) -> None:
        super().__init__()
        self._most_waiting = most_waiting
        self._begin()

    def _begin(self) -> None:
        # What the parent of this process has not written yet is the parent's to write.
        self._process = os.getpid()
        self._lines: SimpleQueue[bytes | Event] = SimpleQueue()
        self._lost = 0
        self._writer: Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a bug in a line of the log must not become one of a request
            self.handleError(record)
            return
        if self._process != os.getpid():
            self._begin()
        if self._lines.qsize() >= self._most_waiting:
            self._lost += 1
            return
        if self._lost:
            self._put(self.format(_lines_lost(self._lost)))
            self._lost = 0
        self._put(line)
        if not self._writer:
            with suppress(RuntimeError):  # no thread is left just now; the next line tries again
                writer = Thread(target=self._write_lines, args=[self._lines], daemon=True)
                writer.start()
                self._writer = writer

    def flush(self) -> None:
        """Waits until all lines are written, but not for long. Called at the end of a process."""
        if self._process == os.getpid() and self._writer:
            all_are_written = Event()
            self._lines.put(all_are_written)
            all_are_written.wait(self._SECONDS_TO_END)

    def _put(self, line: str) -> None:
        self._lines.put(f"{line}\n".encode())

    def _write_lines(self, lines: "SimpleQueue[bytes | Event]") -> None:
        while True:
            line = lines.get()
            if isinstance(line, Event):
                line.set()
            else:
                with suppress(OSError):  # nobody reads any more, or the disk is full
                    self._write(line)

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._FILE, line) :]
            except BlockingIOError:  # somebody who shares the pipe made it so
                select.select([], [self._FILE], [])


def _lines_lost(count: int) -> logging.LogRecord:
    message = "log lines lost"
    record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)
    record.count = count
    return record


def configuration(level: str) -> dict[str, Any]:
    """For logging.config.dictConfig, and for gunicorn's logconfig_dict."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.JsonFormatter"}},
        "filters": {"without_requests": {"()": f"{__name__}.WithoutRequests"}},
        "handlers": {
            "stdout": {
                "()": f"{__name__}.StandardOutput",
                "formatter": "json",
            }
        },
        "root": {"level": level.upper(), "handlers": ["stdout"]},
        "loggers": {
            # They write what other programs sent, addresses with numbers in them included.
            "urllib3": {"level": "CRITICAL"},
            "alembic": {"level": "WARNING"},
            "gunicorn.error": {
                "level": "INFO" if level == "debug" else level.upper(),
                "filters": ["without_requests"],
                "handlers": [],
                "propagate": True,
            },
        },
    }
