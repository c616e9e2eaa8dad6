"""What CRM Text's stand-in promises: to people who try it, and to the tests that script it."""

import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPSConnection
from io import FileIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest
import xmltodict

from gateway.sandbox.customers import MAGIC_NUMBERS
from gateway.sandbox.server import PATH, Sandbox
from tests.support.fake_crmtext import FakeCrmText, Reply, self_signed, xml

ROOT = Path(__file__).parents[2]
NUMBER = "9995551234"


class Answer(NamedTuple):
    """What a client sees of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def basic(auth_string: str = "user:pass:word:Pizza") -> str:
    return "Basic " + base64.b64encode(auth_string.encode()).decode()


def ask(
    connection: HTTPConnection,
    method: str = "optoutcustomer",
    phone_number: str = NUMBER,
    *,
    authorization: str = basic(),
    path: str = PATH,
    verb: str = "POST",
    **fields: str,
) -> Answer:
    form = urlencode({"method": method, "phone_number": phone_number, **fields})
    connection.request(verb, path, form, {"Authorization": authorization})
    response = connection.getresponse()
    return Answer(response.status, dict(response.getheaders()), response.read())


def connect(sandbox: Sandbox) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", sandbox.server_port, timeout=5)


def customer(answer: Answer) -> dict[str, str]:
    fields = xmltodict.parse(answer.body)["response"]["customer"]
    return {name: text or "" for name, text in fields.items()}


def status_of(client: HTTPConnection, phone_number: str = NUMBER, store: str = "PIZZA") -> str:
    info = ask(client, "getcustomerinfo", phone_number, authorization=basic(f"u:p:{store}"))
    return customer(info)["optinStatus"]


def exchange(sandbox: Sandbox, phone_number: str, patience: float = 0.3) -> tuple[str, str]:
    """All that comes over the wire for an opt-out, and whether it ended closed, reset or open."""
    form = f"method=optoutcustomer&phone_number={phone_number}"
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {basic()}\r\n"
    wire = f"{head}Content-Length: {len(form)}\r\n\r\n{form}".encode()
    received = b""
    end = time.monotonic() + patience
    with socket.create_connection(("127.0.0.1", sandbox.server_port)) as client:
        client.sendall(wire)
        while (left := end - time.monotonic()) > 0:
            client.settimeout(left)
            try:
                piece = client.recv(65536)
            except TimeoutError:
                break
            except ConnectionResetError:
                return received.decode(), "reset"
            if not piece:
                return received.decode(), "closed"
            received += piece
    return received.decode(), "open"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[HTTPConnection]:
    connection = connect(sandbox)
    yield connection
    connection.close()


@pytest.fixture
def fake() -> Iterator[FakeCrmText]:
    with FakeCrmText() as running:
        yield running


class TestTheUsualNumber:
    def test_is_opted_out_with_the_shape_that_clients_parse(self, client: HTTPConnection) -> None:
        answer = ask(client)

        root = xmltodict.parse(answer.body)["response"]
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/xml; charset=utf-8")
        assert {name: text for name, text in root.items() if name != "customer"} == {
            "@op": "optoutcustomer",
            "@status": "200",
            "@message": "ok",
            "@version": "1.0",
        }
        assert {name: re.sub(r"\d", "9", text) for name, text in customer(answer).items()} == {
            "custId": "9999999999999",
            "subacct": "999",
            "timestamp": "9999-99-99 99:99:99",
            "optinStatus": "9",
            "custName": "John Queue",
            "custMobile": "9999999999",
        }
        assert (customer(answer)["optinStatus"], customer(answer)["custMobile"]) == ("5", NUMBER)

    def test_is_opted_out_at_the_time_of_the_us_west_coast(self, client: HTTPConnection) -> None:
        said = datetime.fromisoformat(customer(ask(client))["timestamp"])

        pacific = datetime.now(ZoneInfo("America/Los_Angeles")).replace(tzinfo=None)
        assert 0 <= (pacific - said).total_seconds() < 5

    def test_is_refused_a_second_opt_out(self, client: HTTPConnection) -> None:
        ask(client)

        again = ask(client)

        assert (again.status, again.body) == (200, xml("400", "Customer is Opted-Out"))

    def test_has_the_same_id_in_every_answer(self, client: HTTPConnection) -> None:
        answers = [ask(client), ask(client, "getcustomerinfo"), ask(client, "optincustomer")]

        assert len({customer(answer)["custId"] for answer in answers}) == 1

    def test_is_opted_in_until_opted_out(self, client: HTTPConnection) -> None:
        before = customer(ask(client, "getcustomerinfo"))
        ask(client)
        after = customer(ask(client, "getcustomerinfo"))

        assert before["totalMsg"] == "0"
        assert (before["optinStatus"], after["optinStatus"]) == ("3", "5")

    def test_is_opted_in_again_under_a_name_and_out_again(self, client: HTTPConnection) -> None:
        ask(client)
        back = ask(client, "optincustomer", firstname='Ada "A"', lastname="O'Neil <& Sons>\x01")
        out = ask(client)

        name = 'Ada "A" O\'Neil <& Sons>'
        assert (customer(back)["optinStatus"], customer(back)["custName"]) == ("3", name)
        assert (customer(out)["optinStatus"], customer(out)["custName"]) == ("5", name)

    def test_is_another_customer_in_another_store(self, client: HTTPConnection) -> None:
        ask(client)

        assert status_of(client, store="pIZZA") == "5"
        assert status_of(client, store="BURGER") == "3"


class TestRefusals:
    @pytest.mark.parametrize(
        "authorization",
        [
            "",
            "Basic",
            "Basic !!!",
            "Basic " + base64.b64encode(b"\xff:p:PIZZA").decode(),
            "Bearer " + basic().split()[1],
            basic("user:pass"),
            basic(":pass:PIZZA"),
            basic("user::PIZZA"),
            basic("user:wrong:PIZZA"),
            basic("user:pass:"),
            basic("user:pass:PIZ"),
            basic("user:pass:P" + "I" * 19),
            basic("user:pass:PIZ ZA"),
            basic("user:pass:12345"),
        ],
    )
    def test_unusable_credentials_are_unauthorized(
        self, client: HTTPConnection, authorization: str
    ) -> None:
        answer = ask(client, authorization=authorization)

        assert (answer.status, answer.body) == (401, xml("401", "Unauthorized"))
        assert answer.headers["WWW-Authenticate"] == "Basic"

    @pytest.mark.parametrize(
        "auth_string", ["u:p:PIZZ", "u:p:" + "P" * 19, "u:p:1234A", "u:wrong:p:PIZZA", "u:ü:PIZZA"]
    )
    def test_usable_credentials_are_taken(self, client: HTTPConnection, auth_string: str) -> None:
        assert ask(client, authorization=basic(auth_string)).status == 200

    @pytest.mark.parametrize(
        "number", ["", "999555123", "99955512345", "999-555-1234", "+19995551234", "٩" * 10]
    )
    def test_anything_but_ten_digits_is_no_number(
        self, client: HTTPConnection, number: str
    ) -> None:
        answer = ask(client, phone_number=number)

        assert (answer.status, answer.body) == (200, xml("400", "Invalid phone_number"))

    @pytest.mark.parametrize("method", ["", "OptOutCustomer", "sendsmsmsg", '"<&\x00'])
    def test_another_method_is_unknown(self, client: HTTPConnection, method: str) -> None:
        answer = ask(client, method)

        assert (answer.status, answer.body) == (200, xml("400", "Unknown method", method))

    def test_another_path_is_a_page_that_is_not_found(self, client: HTTPConnection) -> None:
        answer = ask(client, path="/smapi")

        assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html")
        assert answer.body == b"<html><h1>Not Found</h1></html>"

    def test_get_is_no_way_to_ask(self, client: HTTPConnection) -> None:
        answer = ask(client, verb="GET")

        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@dataclass(frozen=True)
class Expected:
    """What comes over the wire (a pattern of status line, headers and body), and the effect."""

    wire: str
    ending: str = "closed"
    opted_out: bool = False


OUT = r'op="optoutcustomer" status="200".*<optinStatus>5</optinStatus>.*</customer></response>'
EXPECTED = {
    "9995550200": Expected(
        '200 OK.* <response op= "optoutcustomer" status= "200" message= "ok"> '
        "<timestamp>2014-08-11 14:23:36</timestamp> <custName>John Queue</custName> </response>",
        opted_out=True,
    ),
    "9995550201": Expected(f"200 OK.* chunked  [0-9a-f]+ <response {OUT} 0  ", opted_out=True),
    "9995550203": Expected(
        "200 OK.*<optinStatus>3</optinStatus><custMobile>9995550203</custMobile>.*</response>"
    ),
    "9995550205": Expected(
        "200 OK.*<optinStatus>5</optinStatus><custMobile>9995551234</custMobile>.*</response>"
    ),
    "9995550302": Expected("302 Found.* Location: /elsewhere  "),
    "9995550400": Expected('200 OK.* status="400" message="Customer is Opted-Out".*</response>'),
    "9995550401": Expected('401 Unauthorized.* WWW-Authenticate: Basic .* status="401".*'),
    "9995550404": Expected('200 OK.* status="404" message="Customer not found".*</response>'),
    "9995550422": Expected('200 OK.* status="422" message="9995550422 cannot .*</response>'),
    "9995550429": Expected('429 Too Many Requests.* Retry-After: 3  .* status="429".*</response>'),
    "9995550500": Expected('200 OK.* status="500" message="Internal error".*</response>'),
    "9995550502": Expected('500 Internal Server Error.* status="500".*</response>'),
    "9995550503": Expected(
        "503 Service Unavailable.* text/html .*<html><h1>Service Unavailable</h1></html>"
    ),
    "9995550602": Expected("", "open", opted_out=True),
    "9995550610": Expected("200 OK.*  .{1,2}", "open", opted_out=True),
    "9995550611": Expected(".{1,2}", "open", opted_out=True),
    "9995550630": Expected("", "open"),
    "9995550700": Expected("200 OK.*  OK, done."),
    "9995550701": Expected("200 OK.* <response .*<custMobile>99955", opted_out=True),
    "9995550702": Expected("", "reset"),
}


class TestMagicNumbers:
    @pytest.mark.parametrize("number", MAGIC_NUMBERS)
    def test_each_makes_its_own_trouble(
        self, sandbox: Sandbox, client: HTTPConnection, number: str
    ) -> None:
        expected = EXPECTED[number]

        wire, ending = exchange(sandbox, number)

        readable = wire.replace("\r\n", " ").replace("\n", " ").removeprefix("HTTP/1.1 ")
        assert re.fullmatch(expected.wire, readable), wire
        assert ending == expected.ending
        assert status_of(client, number) == ("5" if expected.opted_out else "3")

    def test_the_table_of_expectations_names_no_others(self) -> None:
        assert EXPECTED.keys() == MAGIC_NUMBERS.keys()

    def test_the_slow_one_takes_two_seconds_and_the_hanging_one_thirty(self) -> None:
        delays = {number: magic.reply.delay for number, magic in MAGIC_NUMBERS.items()}

        assert {number: delay for number, delay in delays.items() if delay} == {
            "9995550602": 2.0,
            "9995550630": 30.0,
        }

    def test_the_transient_one_fails_twice_in_each_store(self, client: HTTPConnection) -> None:
        statuses = {
            store: [
                ask(client, "optoutcustomer", "9995550502", authorization=basic(store)).status
                for _ in range(4)
            ]
            for store in ("u:p:PIZZA", "u:p:BURGER")
        }

        assert statuses == {store: [500, 500, 200, 200] for store in statuses}
        assert status_of(client, "9995550502") == "5"

    def test_the_transient_one_starts_anew_with_an_opt_in(self, client: HTTPConnection) -> None:
        for _ in range(3):
            ask(client, phone_number="9995550502")
        ask(client, "optincustomer", "9995550502")

        assert ask(client, phone_number="9995550502").status == 500

    def test_they_are_usual_numbers_to_other_methods(self, client: HTTPConnection) -> None:
        assert ask(client, "optincustomer", "9995550404").status == 200


class TestTheRecord:
    def test_has_every_call_as_it_came(self, sandbox: Sandbox, client: HTTPConnection) -> None:
        before = time.monotonic()
        ask(client, authorization=basic("u:p:pizza"))
        ask(client, verb="GET", path="/elsewhere?x", authorization="")

        first, second = sandbox.calls
        assert before <= first.received_at <= second.received_at <= time.monotonic()
        assert (first.verb, first.path, first.authorization) == ("POST", PATH, basic("u:p:pizza"))
        assert (first.store, first.method) == ("PIZZA", "optoutcustomer")
        assert first.phone_number == NUMBER
        assert first.form == {"method": "optoutcustomer", "phone_number": NUMBER}
        assert (second.verb, second.path, second.store) == ("GET", "/elsewhere?x", "")

    def test_shows_which_calls_shared_a_connection(self, sandbox: Sandbox) -> None:
        for calls in (2, 3):
            connection = connect(sandbox)
            for _ in range(calls):
                ask(connection)
            connection.close()

        assert [call.connection for call in sandbox.calls] == [1, 1, 2, 2, 2]
        assert sandbox.connections == 2

    def test_hides_credentials_when_printed(self, sandbox: Sandbox, client: HTTPConnection) -> None:
        ask(client, password="hunter2")

        assert basic() not in repr(sandbox.calls)
        assert "hunter2" not in repr(sandbox.calls)


def test_a_stopped_sandbox_answers_nobody_over_old_connections_either() -> None:
    with Sandbox() as sandbox:
        connection = connect(sandbox)
        ask(connection)

    with pytest.raises(ConnectionError):
        ask(connection)
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        connect(sandbox).connect()


class TestTheFake:
    def test_behaves_like_the_sandbox_until_told_otherwise(self, fake: FakeCrmText) -> None:
        with_connection = connect(fake)
        assert customer(ask(with_connection))["optinStatus"] == "5"
        with_connection.close()

    def test_answers_in_turn_then_always_the_same_then_as_before(self, fake: FakeCrmText) -> None:
        connection = connect(fake)
        fake.answer_with(Reply(503))
        fake.answers(Reply(201, b"a", {"X-Is": "1"}), Reply(202, b"bc"))

        scripted = [ask(connection) for _ in range(4)]
        fake.answer_with(None)
        usual = ask(connection)
        connection.close()

        assert [(answer.status, answer.body) for answer in scripted] == [
            (201, b"a"),
            (202, b"bc"),
            (503, b""),
            (503, b""),
        ]
        assert scripted[0].headers["X-Is"] == "1"
        assert customer(usual)["optinStatus"] == "5"
        assert len(fake.calls) == 5

    @pytest.mark.parametrize(
        ("reply", "wire", "ending"),
        [
            (Reply(body=b"abc"), "{head}abc", "closed"),
            (Reply(body=b"abc", headers={"Content-Length": "9"}), "{long}abc", "closed"),
            (Reply(body=b"abc", chunked=True), "{chunked}3\r\nabc\r\n0\r\n\r\n", "closed"),
            (Reply(body=b"", chunked=True), "{chunked}0\r\n\r\n", "closed"),
            (Reply(body=b"abc", drip=0.01, drip_headers=0.001), "{head}abc", "closed"),
            (Reply(body=b"abc", drip_headers=0.001, cut=-1), "{head}ab", "closed"),
            (Reply(body=b"abc", drip=0.01, cut=4), "HTTP", "closed"),
            (Reply(body=b"abc", delay=0.1, cut=0), "", "closed"),
            (Reply(body=b"abc", delay=0.1, reset=True), "", "reset"),
            (Reply(body=b"abc", delay=5), "", "open"),
        ],
    )
    def test_writes_a_reply_byte_for_byte(
        self, fake: FakeCrmText, reply: Reply, wire: str, ending: str
    ) -> None:
        start = "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\n"
        fake.answer_with(reply)

        assert exchange(fake, NUMBER, patience=0.6) == (
            wire.format(
                head=start + "Content-Length: 3\r\n\r\n",
                long=start + "Content-Length: 9\r\n\r\n",
                chunked=start + "Transfer-Encoding: chunked\r\n\r\n",
            ),
            ending,
        )

    def test_writes_xml_with_its_texts_escaped(self) -> None:
        assert xml("4<0", 'a "reason"', "x&y", custName="<J>", subacct="") == (
            b'<response op="x&amp;y" status="4&lt;0" message="a &quot;reason&quot;" version="1.0">'
            b"<customer><custName>&lt;J&gt;</custName><subacct></subacct></customer></response>"
        )

    def test_speaks_tls_and_lets_no_slow_handshake_delay_others(self, tmp_path: Path) -> None:
        certificate, key = self_signed(tmp_path)
        trusting = ssl.create_default_context(cafile=certificate)
        fake = FakeCrmText(tls=(certificate, key))
        with fake, socket.create_connection(("127.0.0.1", fake.server_port)):
            client = HTTPSConnection(urlsplit(fake.url).netloc, timeout=2, context=trusting)
            answer = ask(client)
            fake.answer_with(Reply(reset=True))
            with pytest.raises(ConnectionError):
                ask(client)

        assert (urlsplit(fake.url).scheme, customer(answer)["optinStatus"]) == ("https", "5")
        assert fake.connections == 2

    def test_survives_a_client_that_distrusts_its_certificate(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with FakeCrmText(tls=self_signed(tmp_path)) as fake:
            client = HTTPSConnection(urlsplit(fake.url).netloc, timeout=2)
            with pytest.raises(ssl.SSLCertVerificationError):
                ask(client)
            client.close()

        assert (capfd.readouterr().err, fake.calls) == ("", [])


def test_the_log_has_one_line_a_call_with_the_number_masked_and_no_credentials(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    with FileIO(path, "w") as log, Sandbox(log=log) as sandbox:
        client = connect(sandbox)
        ask(client)
        ask(client)
        ask(client, NUMBER, "", authorization=basic("user:pass"), path=f"/{NUMBER}")
        ask(client, phone_number="9995550422")
        with suppress(ConnectionError):
            ask(client, phone_number="9995550702")
        client.close()

    common = {"method": "optoutcustomer", "store": "PIZZA", "phone_number": "******1234"}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {**common, "http_status": 200, "status": "200"},
        {**common, "http_status": 200, "status": "400"},
        {
            "method": None,
            "store": "",
            "phone_number": "******",
            "http_status": 404,
            "status": None,
        },
        {**common, "phone_number": "******0422", "http_status": 200, "status": "422"},
        {**common, "phone_number": "******0702", "http_status": None, "status": None},
    ]


class TestTheProgram:
    @pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
    def test_ends_at_once_and_quietly_in_the_middle_of_a_hanging_call(
        self, ending: signal.Signals
    ) -> None:
        program = subprocess.Popen(
            [sys.executable, "-m", "gateway.sandbox", "--port", "0"],
            cwd=ROOT,
            env={**os.environ, "PORT": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with program:
            assert program.stdout is not None
            url = json.loads(program.stdout.readline())["listening"]
            with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as client:
                form = "method=optoutcustomer&phone_number=9995550630"
                client.sendall(
                    f"POST {PATH} HTTP/1.1\r\nAuthorization: {basic()}\r\n"
                    f"Content-Length: {len(form)}\r\n\r\n{form}".encode()
                )
                logged = json.loads(program.stdout.readline())
                program.send_signal(ending)
                started = time.monotonic()
                rest, errors = program.communicate(timeout=5)

        assert logged["phone_number"] == "******0630"
        assert (program.returncode, rest, errors) == (0, "", "")
        assert time.monotonic() - started < 1

    def test_explains_every_magic_number(self) -> None:
        shown = subprocess.run(
            [sys.executable, "-m", "gateway.sandbox", "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )

        listed = re.findall(r"^  (\d{10})  (.+)$", shown.stdout, re.MULTILINE)
        assert dict(listed) == {
            number: magic.explanation for number, magic in MAGIC_NUMBERS.items()
        }

    def test_says_in_one_line_why_it_cannot_listen(self, sandbox: Sandbox) -> None:
        refused = subprocess.run(  # noqa: S603 - the interpreter that runs this test
            [sys.executable, "-m", "gateway.sandbox", "--port", str(sandbox.server_port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

        assert refused.returncode == 2
        assert "cannot listen on 127.0.0.1 port" in refused.stderr.splitlines()[-1]
        assert "Traceback" not in refused.stderr

    def test_is_imported_by_nothing_of_the_gateway(self) -> None:
        sources = [
            *ROOT.glob("*.py"),
            *(ROOT / "gateway").glob("[!s]*/**/*.py"),
            *ROOT.glob("schemas/*.py"),
        ]
        imports = re.compile(r"^\s*(from|import)\b.*\bsandbox\b", re.MULTILINE)

        assert [path.name for path in sources if imports.search(path.read_text())] == []
