"""Look-ups: a customer of any status is found, and a bad answer is worth as little as elsewhere."""

from dataclasses import replace

import pytest

from gateway.consent import Customer, LookUp, Outcome
from gateway.crmtext.answers import Method
from gateway.errors import CrmTextWords, ErrorCode, Failure
from tests.support.crmtext_answers import FIELDS, INVALID, JOHN, OK, read, response
from tests.support.crmtext_calls import connect
from tests.support.factories import NUMBER
from tests.support.fake_crmtext import FakeCrmText, Reply, xml


def test_a_look_up_finds_a_customer_of_any_status() -> None:
    found = {
        status: read(
            xml(op="getcustomerinfo", **FIELDS | {"optinStatus": sent, "totalMsg": "7"}),
            method=Method.LOOK_UP,
        )
        for sent, status in [("1", "new"), ("3", "opted_in"), ("4", "pending"), ("5", "opted_out")]
    }

    assert found == {
        status: Outcome(None, replace(JOHN, status=status), crmtext=OK) for status in found
    }


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (xml(op="", custId="7"), None),
        (response("<custName>Jo</custName>", op="GetCustomerInfo"), None),
        (xml(op="optoutcustomer", **FIELDS), INVALID),
        (xml(op="getcustomerinfo"), INVALID),
        (xml(op="getcustomerinfo", custName=""), INVALID),
        (xml(op="getcustomerinfo", custId="7", custMobile="9995551235"), INVALID),
        (xml("404", "not found", op="getcustomerinfo"), "customer_not_found"),
        (xml("422", "no", op="getcustomerinfo"), "crmtext_rejected"),
        (xml("401", "no", op="getcustomerinfo"), "crmtext_auth_failed"),
        (xml("503", "no", op="getcustomerinfo"), "crmtext_unavailable"),
        (xml("302", "no", op="getcustomerinfo"), INVALID),
    ],
)
def test_a_look_up_is_judged_as_strictly_as_an_opt_out(body: bytes | str, name: str | None) -> None:
    failure = read(body, method=Method.LOOK_UP).failure

    assert (failure and failure.code) == name


def test_a_look_up_that_is_told_already_opted_out_has_found_the_customer() -> None:
    body = xml("400", "Customer is Opted-Out", op="getcustomerinfo")

    customer = Customer(None, None, "opted_out", None, None, None)
    assert read(body, method=Method.LOOK_UP).customer == customer


def test_a_look_up_asks_about_the_number_and_sends_nothing_else(crmtext: FakeCrmText) -> None:
    connect(crmtext.url).look_up(NUMBER, "BURGER")

    assert [(call.store, call.form) for call in crmtext.calls] == [
        ("BURGER", {"method": "getcustomerinfo", "phone_number": NUMBER})
    ]


def test_a_look_up_returns_the_customer_and_changes_nothing(crmtext: FakeCrmText) -> None:
    client = connect(crmtext.url)

    before = client.look_up(NUMBER, "PIZZA")
    client.opt_out(NUMBER, "PIZZA")
    after = client.look_up(NUMBER, "PIZZA")

    statuses = [found.customer and found.customer.status for found in (before, after)]
    assert statuses == ["opted_in", "opted_out"]
    assert before == LookUp(None, before.customer, 200, CrmTextWords("200", "ok"))


def test_a_look_up_returns_a_failure_as_an_opt_out_does(crmtext: FakeCrmText) -> None:
    crmtext.answers(Reply(401, b"<html/>", {"Retry-After": "3"}))

    assert connect(crmtext.url).look_up(NUMBER, "PIZZA") == LookUp(
        Failure(
            ErrorCode.CRMTEXT_AUTH_FAILED,
            "CRM Text refused the credentials of store PIZZA. "
            "CRM Text's answer (HTTP 401) is not CRM Text's XML.",
            retry_after=3,
        ),
        http_status=401,
    )
