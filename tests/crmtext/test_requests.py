"""What is sent to CRM Text, and over which connections."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.accounts import Store
from gateway.consent import Outcome
from gateway.crmtext.client import CrmText
from gateway.errors import ErrorCode, Failure
from tests.support.crmtext_calls import GOOD, INVALID, basic, connect, sends
from tests.support.factories import NUMBER, PIZZA
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.scripted_server import scripted_server


def test_one_form_with_method_and_number_is_sent_and_nothing_else() -> None:
    with scripted_server(sends(GOOD, b"Connection: close\r\n\r\n", xml())) as server:
        connect(server.url).opt_out(NUMBER, "PIZZA")

    head, _, body = server.requests[0].decode("ascii").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    assert first == "POST /smapi/rest HTTP/1.1"
    assert dict(line.split(": ", 1) for line in lines) == {
        "Host": server.url.split("/")[2],
        "Authorization": basic(PIZZA),
        "Accept": "text/xml, application/xml",
        "Accept-Encoding": "identity",
        "User-Agent": "crmtext-gateway",
        "Content-Length": "45",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert body == "method=optoutcustomer&phone_number=9995551234"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("store", "auth_string"),
    [("PIZZA", "pizzeria:pizza:secret:PIZZA"), ("BURGER", "burgerbar:burger-secret:BURGER")],
)
def test_each_store_has_its_own_credentials(
    crmtext: FakeCrmText, store: str, auth_string: str
) -> None:
    connect(crmtext.url).opt_out(NUMBER, store)

    calls = [(call.store, call.authorization) for call in crmtext.calls]
    assert calls == [(store, basic(auth_string))]


def test_credentials_and_keywords_are_sent_as_they_were_configured(crmtext: FakeCrmText) -> None:
    auth_string = "us\u00e9r:p\u00e4ss%20:w+rd:Pizza"
    call = CrmText(crmtext.url, 5, [Store("PIZZA", auth_string)])

    assert call.opt_out(NUMBER, "PIZZA").name == "opted_out"
    assert crmtext.calls[0].authorization == basic(auth_string)


def test_a_netrc_file_changes_nothing(
    crmtext: FakeCrmText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))

    connect(crmtext.url).opt_out(NUMBER, "PIZZA")

    assert [call.authorization for call in crmtext.calls] == [basic(PIZZA)]


def test_a_cookie_is_not_sent_back() -> None:
    answer = sends(GOOD, b"Set-Cookie: a=b\r\nConnection: close\r\n\r\n", xml())
    with scripted_server(answer) as server:
        call = connect(server.url)
        call.opt_out(NUMBER, "PIZZA")
        call.opt_out(NUMBER, "PIZZA")

    assert [b"ookie" in request for request in server.requests] == [False, False]


def test_the_proxy_of_the_environment_is_used(
    crmtext: FakeCrmText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", crmtext.url.removesuffix("/smapi/rest"))
    monkeypatch.setenv("http_proxy", crmtext.url.removesuffix("/smapi/rest"))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    crmtext.answer_with(Reply(body=xml()))

    outcome = connect("http://crm.invalid/smapi/rest").opt_out(NUMBER, "PIZZA")

    assert outcome.name == "opted_out"
    assert [call.path for call in crmtext.calls] == ["http://crm.invalid/smapi/rest"]


def test_nothing_is_sent_for_a_store_that_is_no_longer_configured(crmtext: FakeCrmText) -> None:
    outcome = connect(crmtext.url).opt_out(NUMBER, "TACOS")

    what = "CRMTEXT_AUTH_STRINGS has no entry for store TACOS."
    assert outcome == Outcome(Failure(ErrorCode.CRMTEXT_AUTH_FAILED, what))
    assert crmtext.calls == []


def test_connections_are_kept_for_the_next_call(crmtext: FakeCrmText) -> None:
    call = connect(crmtext.url)
    numbers = [f"999555{n:04}" for n in range(2000, 2200)]
    with ThreadPoolExecutor(4) as threads:
        names = set(threads.map(lambda number: call.opt_out(number, "PIZZA").name, numbers))

    assert names == {"opted_out"}
    assert sorted(one.phone_number for one in crmtext.calls) == numbers
    assert crmtext.connections <= 5


def test_connections_are_kept_after_a_refusal_too(crmtext: FakeCrmText) -> None:
    call = connect(crmtext.url)
    crmtext.answer_with(Reply(404, xml("404", "not found")))

    names = {call.opt_out(NUMBER, "PIZZA").name for _ in range(10)}

    assert (names, crmtext.connections) == ({"customer_not_found"}, 1)


def test_a_connection_with_unread_bytes_is_not_kept(crmtext: FakeCrmText) -> None:
    call = connect(crmtext.url)
    crmtext.answers(Reply(body=b"x" * 3_000_000), Reply(body=xml()))

    names = [call.opt_out(NUMBER, "PIZZA").name for _ in range(2)]

    assert names == [INVALID, "opted_out"]


def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    with FakeCrmText() as first:
        call = connect(first.url)
        assert call.opt_out(NUMBER, "PIZZA").name == "opted_out"
    time.sleep(0.05)
    with FakeCrmText(first.server_port) as second:
        assert call.opt_out(NUMBER, "PIZZA").name == "opted_out"
        assert len(second.calls) == 1


def test_calls_never_wait_for_one_another(crmtext: FakeCrmText) -> None:
    call = connect(crmtext.url)
    crmtext.answer_with(Reply(body=xml(), delay=0.3))
    began = time.monotonic()
    with ThreadPoolExecutor(50) as threads:
        names = set(threads.map(lambda _: call.opt_out(NUMBER, "PIZZA").name, range(50)))

    assert names == {"opted_out"}
    assert time.monotonic() - began < 1.0
