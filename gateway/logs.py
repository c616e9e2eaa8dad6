"""Log lines: one JSON object each on standard output, with the request's id and no full number."""

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
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


def configuration(level: str) -> dict[str, Any]:
    """For logging.config.dictConfig, and for gunicorn's logconfig_dict."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.JsonFormatter"}},
        "filters": {"without_requests": {"()": f"{__name__}.WithoutRequests"}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
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
