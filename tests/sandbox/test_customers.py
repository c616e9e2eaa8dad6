"""What the sandbox's customers are told, the usual ones and the test numbers."""

import re
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from zoneinfo import ZoneInfo

import pytest
import xmltodict

from gateway.sandbox.customers import MAGIC_NUMBERS
from gateway.sandbox.server import Sandbox
from tests.support.factories import NUMBER
from tests.support.fake_crmtext import xml
from tests.support.sandbox_calls import ask, basic, customer, exchange, status_of


def test_the_usual_number_is_opted_out_with_the_shape_that_clients_parse(
    client: HTTPConnection,
) -> None:
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


def test_the_usual_number_is_opted_out_at_the_time_of_the_us_west_coast(
    client: HTTPConnection,
) -> None:
    said = datetime.fromisoformat(customer(ask(client))["timestamp"])

    pacific = datetime.now(ZoneInfo("America/Los_Angeles")).replace(tzinfo=None)
    assert 0 <= (pacific - said).total_seconds() < 5


def test_the_usual_number_is_refused_a_second_opt_out(client: HTTPConnection) -> None:
    ask(client)

    again = ask(client)

    assert (again.status, again.body) == (200, xml("400", "Customer is Opted-Out"))


def test_the_usual_number_has_the_same_id_in_every_answer(client: HTTPConnection) -> None:
    answers = [ask(client), ask(client, "getcustomerinfo"), ask(client, "optincustomer")]

    assert len({customer(answer)["custId"] for answer in answers}) == 1


def test_the_usual_number_is_opted_in_until_opted_out(client: HTTPConnection) -> None:
    before = customer(ask(client, "getcustomerinfo"))
    ask(client)
    after = customer(ask(client, "getcustomerinfo"))

    assert before["totalMsg"] == "0"
    assert (before["optinStatus"], after["optinStatus"]) == ("3", "5")


def test_the_usual_number_is_opted_in_again_under_a_name_and_out_again(
    client: HTTPConnection,
) -> None:
    ask(client)
    back = ask(client, "optincustomer", firstname='Ada "A"', lastname="O'Neil <& Sons>\x01")
    out = ask(client)

    name = 'Ada "A" O\'Neil <& Sons>'
    assert (customer(back)["optinStatus"], customer(back)["custName"]) == ("3", name)
    assert (customer(out)["optinStatus"], customer(out)["custName"]) == ("5", name)


def test_the_usual_number_is_another_customer_in_another_store(client: HTTPConnection) -> None:
    ask(client)

    assert status_of(client, store="pIZZA") == "5"
    assert status_of(client, store="BURGER") == "3"


@pytest.mark.parametrize(
    "number", ["", "999555123", "99955512345", "999-555-1234", "+19995551234", "٩" * 10]
)
def test_anything_but_ten_digits_is_not_a_number(client: HTTPConnection, number: str) -> None:
    answer = ask(client, phone_number=number)

    assert (answer.status, answer.body) == (200, xml("400", "Invalid phone_number"))


@pytest.mark.parametrize("method", ["", "OptOutCustomer", "sendsmsmsg", '"<&\x00'])
def test_any_other_method_is_unknown(client: HTTPConnection, method: str) -> None:
    answer = ask(client, method)

    assert (answer.status, answer.body) == (200, xml("400", "Unknown method", method))


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
    "9995550400": Expected(
        '200 OK.* status="400" message="Customer is Opted-Out".*</response>', opted_out=True
    ),
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


@pytest.mark.parametrize("number", MAGIC_NUMBERS)
def test_each_test_number_is_answered_as_explained(
    sandbox: Sandbox, client: HTTPConnection, number: str
) -> None:
    expected = EXPECTED[number]

    wire, ending = exchange(sandbox, number)

    readable = wire.replace("\r\n", " ").replace("\n", " ").removeprefix("HTTP/1.1 ")
    assert re.fullmatch(expected.wire, readable), wire
    assert ending == expected.ending
    assert status_of(client, number) == ("5" if expected.opted_out else "3")


def test_the_table_of_expectations_names_no_others() -> None:
    assert EXPECTED.keys() == MAGIC_NUMBERS.keys()


def test_the_slow_number_takes_two_seconds_and_the_hanging_one_thirty() -> None:
    delays = {number: magic.reply.delay for number, magic in MAGIC_NUMBERS.items()}

    assert {number: delay for number, delay in delays.items() if delay} == {
        "9995550602": 2.0,
        "9995550630": 30.0,
    }


def test_the_transient_number_fails_twice_in_each_store(client: HTTPConnection) -> None:
    statuses = {
        store: [
            ask(client, "optoutcustomer", "9995550502", authorization=basic(store)).status
            for _ in range(4)
        ]
        for store in ("u:p:PIZZA", "u:p:BURGER")
    }

    assert statuses == {store: [500, 500, 200, 200] for store in statuses}
    assert status_of(client, "9995550502") == "5"


def test_the_transient_number_starts_over_with_an_opt_in(client: HTTPConnection) -> None:
    for _ in range(3):
        ask(client, phone_number="9995550502")
    ask(client, "optincustomer", "9995550502")

    assert ask(client, phone_number="9995550502").status == 500


def test_test_numbers_are_usual_numbers_to_other_methods(client: HTTPConnection) -> None:
    assert ask(client, "optincustomer", "9995550404").status == 200


ANSWERS_TO_A_REPEAT = {
    "9995550200": ["200", "200", "200"],
    "9995550201": ["200", "400", "400"],
    "9995550400": ["400", "400", "400"],
    "9995550404": ["404", "404", "404"],
    "9995550502": ["500", "500", "200"],
    NUMBER: ["200", "400", "400"],
}


@pytest.mark.parametrize("number", ANSWERS_TO_A_REPEAT)
def test_an_opted_out_customer_is_already_opted_out_the_second_time(
    client: HTTPConnection, number: str
) -> None:
    answers = [ask(client, phone_number=number).body for _ in range(3)]

    statuses = [re.findall(rb'status= ?"(\d+)"', body)[0].decode() for body in answers]
    assert statuses == ANSWERS_TO_A_REPEAT[number]


def test_the_second_answer_to_a_test_number_is_as_broken_as_the_first(sandbox: Sandbox) -> None:
    answers = [exchange(sandbox, "9995550701") for _ in range(2)]

    assert [ending for _, ending in answers] == ["closed", "closed"]
    assert [wire.endswith("</response>") for wire, _ in answers] == [False, False]
    assert ['status="400"' in wire for wire, _ in answers] == [False, True]


def test_one_number_is_opted_out_before_anybody_asked_until_it_is_opted_in(
    client: HTTPConnection,
) -> None:
    before = status_of(client, "9995550400")
    ask(client, "optincustomer", "9995550400")

    assert (before, status_of(client, "9995550400")) == ("5", "3")
    assert customer(ask(client, phone_number="9995550400"))["optinStatus"] == "5"
