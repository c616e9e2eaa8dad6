"""Log lines: JSON objects with the request's id, without a full phone number."""

import json
import logging
import logging.config
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from gateway.logs import JsonFormatter, WithoutRequests, configuration, request_id
from gateway.settings import Settings


@pytest.fixture(autouse=True)
def answered_request() -> Iterator[None]:
    token = request_id.set("request-1")
    yield
    request_id.reset(token)


def record(message: str, *arguments: object, **members: object) -> logging.LogRecord:
    made = logging.LogRecord("gateway.test", logging.WARNING, "f.py", 1, message, arguments, None)
    made.created = 1_795_377_600.5
    vars(made).update(members)
    return made


def line(made: logging.LogRecord) -> dict[str, object]:
    text = JsonFormatter().format(made)
    assert "\n" not in text
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_a_line_is_one_json_object_with_the_requests_id() -> None:
    assert line(record("the %s was\nanswered", "request", status=200, seconds=0.5)) == {
        "time": "2026-11-22T20:00:00.500+00:00",
        "level": "warning",
        "logger": "gateway.test",
        "message": "the request was\nanswered",
        "request_id": "request-1",
        "status": 200,
        "seconds": 0.5,
    }


def test_outside_of_a_request_the_id_is_a_dash() -> None:
    request_id.set("-")

    assert line(record("started"))["request_id"] == "-"


@pytest.mark.parametrize(
    "number", ["9995551234", "+1 (999) 555-1234", "1.999.555.1234", "19995551234"]
)
def test_a_number_in_a_message_or_its_arguments_is_masked(number: str) -> None:
    expected = "+******1234" if number.startswith("+") else "******1234"

    assert line(record(f"to {number}"))["message"] == f"to {expected}"
    assert line(record("to %s", number))["message"] == f"to {expected}"


def test_a_number_in_an_exception_is_masked() -> None:
    made = record("it broke")
    try:
        int("not 9995551234")
    except ValueError:
        made.exc_info = sys.exc_info()

    assert str(line(made)["exception"]).endswith("with base 10: 'not ******1234'")


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    assert line(record("x", at=datetime(2026, 11, 22, tzinfo=UTC)))["at"] == (
        "2026-11-22 00:00:00+00:00"
    )


def test_all_loggers_write_json_lines_to_standard_output(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logging.config.dictConfig(configuration(settings.log_level))
        logging.getLogger("gateway.web.api.opt_outs").info("one")
        logging.getLogger("gunicorn.error").info("two")
        logging.getLogger("anything.else").warning("three")
        logging.getLogger("gateway.web.api.opt_outs").debug("unheard")
        logging.getLogger("urllib3.connectionpool").error("http://host/?number=5551234")
        root.handlers[0].flush()
    finally:
        root.handlers[:], root.level = before

    out, err = capfd.readouterr()
    assert [json.loads(text)["message"] for text in out.splitlines()] == ["one", "two", "three"]
    assert err == ""


LOGS_AND_ENDS = """
import logging, logging.config, os, sys
from gateway.logs import configuration
logging.config.dictConfig(configuration("info"))
log = logging.getLogger("test")
log.info("0")
if not os.fork():
    sys.exit()
os.wait()
for number in range(1, int(sys.argv[1])):
    log.info("%d", number)
print("all said", file=sys.stderr, flush=True)
sys.stdin.read()
log.info("last")
"""


@contextmanager
def logging_program(lines: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has logged that many lines, and ends once its input does."""
    command = [sys.executable, "-c", LOGS_AND_ENDS, str(lines)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == b"all said\n"
        yield program


def test_all_lines_are_written_once_and_in_order_before_a_program_ends() -> None:
    with logging_program(200) as program:
        out, _ = program.communicate(timeout=10)

    said = [json.loads(text)["message"] for text in out.splitlines()]
    assert said == [*map(str, range(200)), "last"]


def test_a_log_that_nobody_reads_stops_nobody_and_says_how_many_lines_are_lost() -> None:
    with logging_program(20_000) as program:
        assert program.stdout is not None
        early = [json.loads(program.stdout.readline()) for _ in range(2000)]
        out, _ = program.communicate(timeout=10)

    *lines, last = early + [json.loads(text) for text in out.splitlines()]
    said = 0
    for line in lines:
        is_gap = line["message"] == "log lines lost"
        assert is_gap or line["message"] == str(said)
        said += line["count"] if is_gap else 1
    assert (said, last["message"]) == (20_000, "last")
    assert {line["level"] for line in lines} == {"info", "warning"}


def test_a_log_that_nobody_ever_reads_does_not_keep_a_program_from_its_end() -> None:
    with logging_program(20_000) as program:
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait(10) == 0


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            "Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'Authorization Bearer x'",
            "Invalid request from ip=127.0.0.1: Invalid HTTP Header: …",
        ),
        (
            'Invalid request from ip=::1: Invalid HTTP request line: "it\'s\n"',
            "Invalid request from ip=::1: Invalid HTTP request line: …",
        ),
        (
            "Invalid request from ip=10.0.0.1: Request Line is too large (9000 > 8190)",
            "Invalid request from ip=10.0.0.1: Request Line is too large (9000 > 8190)",
        ),
        ("Booting worker with pid: '7'", "Booting worker with pid: '7'"),
    ],
)
def test_what_gunicorn_quotes_of_a_request_is_left_out(message: str, kept: str) -> None:
    made = record("%s", message)

    assert WithoutRequests().filter(made)
    assert line(made)["message"] == kept
