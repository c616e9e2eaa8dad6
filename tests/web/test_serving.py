"""The gateway under real gunicorn: starting, stopping, slow clients, and what it writes down."""

import base64
import json
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests

from tests.support.factories import (
    BEARER,
    NUMBER,
    Served,
    make_environment,
    run,
    serve,
    sha256,
)
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.wire import HEAD, SECONDS, answer_on, connect, drip, lines_of, lines_until

FAULTS = {
    "CRMTEXT_AUTH_STRINGS": "hunter2",
    "GATEWAY_API_KEYS": "",
    "CRMTEXT_URL": "http://user:hunter2@crm.example.com",
    "PORT": "hunter2",
    "DATABASE_URL": "hunter2",
}


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "gunicorn", "wsgi:app"),
        ("-m", "gateway", "worker"),
        ("-m", "gateway", "release"),
    ],
    ids=" ".join,
)
def test_a_faulty_environment_stops_the_start_with_each_fault_once(
    command: tuple[str, ...],
) -> None:
    began = time.monotonic()

    ended = run(*command, environment=make_environment(**FAULTS))

    said = ended.stdout + ended.stderr
    faults = [line for line in said.splitlines() if line.partition(":")[0] in FAULTS]
    assert ended.returncode != 0
    assert sorted(line.partition(":")[0] for line in faults) == sorted(FAULTS)
    assert "Traceback" not in said
    assert "hunter2" not in said
    assert time.monotonic() - began < 10


def test_the_repositorys_own_way_to_start_says_nothing_but_the_faults() -> None:
    ended = run("-m", "gunicorn", "wsgi:app", environment=make_environment(LOG_LEVEL="loud"))

    assert (ended.returncode, ended.stdout, ended.stderr) == (
        1,
        "",
        "LOG_LEVEL: must be debug, info, warning, error or critical\n",
    )


def test_an_opt_out_goes_all_the_way(served: Served, upstream: FakeCrmText) -> None:
    answer = requests.post(
        f"{served.url}/v1/opt-outs", json={"phone_number": "9995550001"}, headers=BEARER, timeout=9
    )

    assert (answer.status_code, answer.json()["status"]) == (200, "opted_out")
    assert "9995550001" in [call.phone_number for call in upstream.calls]


def test_a_connection_is_kept_for_more_requests(served: Served) -> None:
    with connect(served) as connection:
        statuses = []
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
            statuses.append(answer_on(connection)[0])
            time.sleep(SECONDS / 2)  # the time of a request begins with the request

    assert statuses == [200, 200, 200]


def test_a_kept_connection_may_idle_longer_than_a_request_may_take(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
        first = answer_on(connection)
        time.sleep(SECONDS * 2)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
        second = answer_on(connection)

    assert first == second == (200, b'{"status": "ok"}\n')


def test_a_client_that_drips_its_headers_is_cut_off(served: Served) -> None:
    with connect(served) as connection:
        received, seconds = drip(connection, HEAD + b"X-Padding: " + b"x" * 200)

    assert received == b""
    assert seconds < SECONDS + 1.5


def test_a_client_that_drips_its_body_is_cut_off_and_nothing_is_sent(
    served: Served, upstream: FakeCrmText
) -> None:
    slow = json.dumps({"phone_number": "9995550002"}).encode() + b" " * 1000
    with connect(served) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(slow))
        received, seconds = drip(connection, slow)

    assert b" 200 " not in received
    assert SECONDS - 0.1 < seconds < SECONDS + 1.5
    assert "9995550002" not in [call.phone_number for call in upstream.calls]


def test_a_client_that_drips_chunks_is_cut_off_and_nothing_is_sent(
    served: Served, upstream: FakeCrmText
) -> None:
    body = json.dumps({"phone_number": "9995550003"}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    with connect(served) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        received, seconds = drip(connection, chunks + b"0\r\n\r\n")

    assert b" 200 " not in received
    assert seconds < SECONDS + 1.5
    assert "9995550003" not in [call.phone_number for call in upstream.calls]


def test_a_client_that_drips_its_second_request_is_cut_off_too(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
        first, _ = answer_on(connection)
        received, seconds = drip(connection, HEAD + b"X-Padding: " + b"x" * 200)

    assert (first, received) == (200, b"")
    assert seconds < SECONDS + 1.5


def test_a_slow_client_within_the_bound_is_served(served: Served) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"
    with connect(served) as connection:
        for place in range(0, len(request), 8):
            connection.sendall(request[place : place + 8])
            time.sleep(0.02)
        assert answer_on(connection)[0] == 200


def test_slow_clients_delay_nobody_else(served: Served) -> None:
    slow = [connect(served) for _ in range(40)]
    for connection in slow:
        connection.sendall(b"POST /v1/opt-outs HTTP/1.1\r\nHost: g")
    began = time.monotonic()
    answer = requests.get(f"{served.url}/healthz", timeout=9)
    seconds = time.monotonic() - began
    for connection in slow:
        connection.close()

    assert (answer.status_code, seconds < SECONDS) == (200, True)


def test_a_client_that_hangs_up_in_the_middle_is_not_a_bug(
    served: Served, upstream: FakeCrmText
) -> None:
    with connect(served) as connection:
        half = json.dumps({"phone_number": "9995550004"}).encode()
        connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n" + half[:20])
    time.sleep(0.1)

    assert "9995550004" not in [call.phone_number for call in upstream.calls]
    assert [line for line in lines_of(served) if line["level"] == "error"] == []


def test_request_ids_are_returned_and_are_in_every_log_line_of_the_request(served: Served) -> None:
    for number, prefer in enumerate(["return=minimal", "respond-async, wait=5"]):
        answer = requests.post(
            f"{served.url}/v1/opt-outs",
            json={"phone_number": f"999555010{number}"},
            headers=BEARER | {"X-Request-ID": f"trace-{number}", "Prefer": prefer},
            timeout=9,
        )
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, f"trace-{number}")

    lines = [(line["request_id"], line["message"]) for line in lines_until(served, "trace-1")]
    assert [line for line in lines if str(line[0]).startswith("trace-")] == [
        ("trace-0", "attempt succeeded"),
        ("trace-0", "request answered"),
        ("trace-1", "attempt succeeded"),
        ("trace-1", "request answered"),
    ]


def test_a_request_is_logged_with_its_route_and_its_result(served: Served) -> None:
    requests.get(
        f"{served.url}/problems/not_found?a=9995551234", headers={"X-Request-ID": "r-1"}, timeout=9
    )

    (line,) = [line for line in lines_until(served, "r-1") if line["request_id"] == "r-1"]
    assert {name: line[name] for name in line if name not in ("time", "seconds")} == {
        "level": "info",
        "logger": "gateway.app",
        "message": "request answered",
        "request_id": "r-1",
        "method": "GET",
        "route": "/problems/<code>",
        "status": 200,
        "caller": None,
    }


CANARY = "canary-secret"
CANARY_STORE = f"canaryuser:{CANARY}:pass:CANARY"


@pytest.mark.slow
def test_no_secret_and_no_full_number_is_ever_written(
    empty_ledger: Path, tmp_path: Path, crmtext: FakeCrmText
) -> None:
    ledger = tmp_path / "gateway.db"
    ledger.write_bytes(empty_ledger.read_bytes())
    environment = make_environment(
        CRMTEXT_AUTH_STRINGS=CANARY_STORE,
        CRMTEXT_URL=crmtext.url,
        CRMTEXT_TIMEOUT="1",
        GATEWAY_API_KEYS=f"billing:{sha256(CANARY)}",
        DATABASE_URL=f"sqlite:///{ledger}",
        WEB_CONCURRENCY="1",
        LOG_LEVEL="debug",
    )
    encoded = base64.b64encode(CANARY_STORE.encode()).decode()
    number = "9995557531"
    told = Reply(401, xml("401", f"{CANARY_STORE} {encoded} {CANARY}:pass canaryuser {number}"))
    crmtext.answers(
        told,
        Reply(302, headers={"Location": f"http://127.0.0.1:9/?{number}&{CANARY}"}),
        Reply(503, f"<html>{CANARY_STORE} {number}</html>".encode()),
        Reply(200, f"{CANARY}{number}".encode(), {"Content-Encoding": "gzip"}),
        Reply(reset=True),
        Reply(body=xml(), delay=3),
        Reply(body=xml(custName=CANARY_STORE, custMobile=number)),
    )
    bearer = {"Authorization": f"Bearer {CANARY}"}
    address = "/v1/opt-outs"
    with serve(environment, tmp_path) as served:
        for _ in range(7):
            requests.post(
                served.url + address, json={"phone_number": number}, headers=bearer, timeout=9
            )
        answers = [
            requests.request(method, served.url + path, data=body, headers=headers, timeout=9)
            for method, path, body, headers in (
                ("POST", address, f'{{"phone_number": "{number}x"}}', bearer),
                ("POST", address, f'{{"{number}": "{CANARY}"', bearer),
                ("POST", f"{address}?key={CANARY}", number, bearer),
                ("GET", f"/{number}/{CANARY}", None, bearer),
                ("GET", f"{address}/{number}", None, bearer),
                ("POST", address, "{}", {"Authorization": f"Basic {CANARY}{number}"}),
                ("POST", address, "{}", {"Authorization": f"Bearer {CANARY}{number}"}),
                ("POST", address, "{}", bearer | {"Idempotency-Key": f'"{CANARY}{number}'}),
                ("GET", "/healthz", None, {"X-Request-ID": f"{CANARY} {number}"}),
                (f"M{number}", "/healthz", None, {}),
                ("POST", f"/v1/webhooks/{number}", CANARY, {"X-Signature": CANARY}),
            )
        ]
        for request in (
            f"GET /{number}{CANARY} HTTP/1.1\r\nAuthorization : Bearer {CANARY}\r\n\r\n",
            f"GET / HTTP/1.1\r\nAuthorization Bearer {CANARY} {number}\r\n\r\n",
            f"{CANARY} {number}\r\n\r\n",
            f"GET /{number} HTTP/{CANARY}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: {CANARY}\r\nContent-Length: {number}x\r\n\r\n",
            f"GET / HTTP/1.1\r\nX: {'y' * 9000}{CANARY}\r\n\r\n",
            f"GET /{'y' * 9000}{number}{CANARY} HTTP/1.1\r\n\r\n",
        ):
            with connect(served) as connection:
                connection.sendall(request.encode())
                connection.recv(65536)
        code = served.stop()
        written = served.stdout.read_text() + served.stderr.read_text()

    assert code == 0
    assert len(crmtext.calls) == 7
    for secret in (CANARY, "canaryuser", encoded, number, f"1{number}", sha256(CANARY)):
        assert secret not in written
    assert [answer for answer in answers if CANARY in answer.text] == []
    assert served.stderr.read_text() == ""
    for line in lines_of(served):
        assert {"time", "level", "logger", "message", "request_id"} <= line.keys()
    assert [line for line in lines_of(served) if "exception" in line] == []


def test_a_graceful_stop_answers_what_is_in_flight(
    crmtext: FakeCrmText, database_url: str, tmp_path: Path
) -> None:
    crmtext.answer_with(Reply(body=xml(), delay=0.8))
    environment = make_environment(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url)
    answers: list[requests.Response] = []
    with serve(environment, tmp_path) as served:
        asking = threading.Thread(
            target=lambda: answers.append(
                requests.post(
                    f"{served.url}/v1/opt-outs",
                    json={"phone_number": NUMBER},
                    headers=BEARER | {"Connection": "close"},
                    timeout=9,
                )
            )
        )
        asking.start()
        while not crmtext.calls:
            time.sleep(0.01)
        code = served.stop()
        asking.join()
        with pytest.raises(ConnectionRefusedError):
            connect(served)

    assert code == 0
    assert [(one.status_code, one.json()["status"]) for one in answers] == [(200, "opted_out")]
    assert served.stderr.read_text() == ""


def test_many_callers_wait_for_crm_text_at_the_same_time(
    served: Served, upstream: FakeCrmText
) -> None:
    """More callers than a small pool of threads has wait for CRM Text at the same time."""
    upstream.answer_with(Reply(body=xml(), delay=0.5))
    answers: list[int] = []

    def ask(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=10)
        body = json.dumps({"phone_number": f"99955560{number:02}"})
        headers = BEARER | {"Content-Type": "application/json"}
        connection.request("POST", "/v1/opt-outs", body, headers)
        answers.append(connection.getresponse().status)
        connection.close()

    callers = [threading.Thread(target=ask, args=[number]) for number in range(60)]
    began = time.monotonic()
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    upstream.answer_with(None)

    assert answers == [200] * 60
    assert time.monotonic() - began < 10
