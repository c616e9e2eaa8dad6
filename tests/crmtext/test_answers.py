"""How CRM Text's answers are read: its XML decides, and nothing is believed that contradicts."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.consent import Customer, Outcome
from gateway.crmtext.answers import Method, Question, without_xml
from gateway.errors import CrmTextWords, ErrorCode, Failure
from tests.support.crmtext_answers import FIELDS, INVALID, JOHN, OK, name_of, read, response
from tests.support.factories import NUMBER
from tests.support.fake_crmtext import xml


def test_the_nested_shape_that_clients_parse_is_read() -> None:
    assert read(xml(**FIELDS)) == Outcome(None, JOHN, already_opted_out=False, crmtext=OK)


def test_the_flat_shape_that_is_documented_is_read() -> None:
    body = """<response op= "optoutcustomer" status= "200" message= "ok">
        <timestamp>2014-08-11 14:23:36</timestamp>
        <custName>John Queue</custName>
        </response>"""

    customer = replace(JOHN, id=None, status=None, store_id=None, phone_number=None)
    assert read(body) == Outcome(None, customer, crmtext=OK)


@pytest.mark.parametrize(
    ("inner", "customer"),
    [
        ("", None),
        ("<customer/>", None),
        ("<customer></customer>", None),
        ("<customer>text</customer>", None),
        ("<custName></custName>", None),
        ("<custName/><custId/>", None),
        ("<customer><custName></custName><custId>7</custId></customer>", {"id": "7"}),
        (
            "<custId>7</custId><customer><custName>Jo</custName></customer>",
            {"id": "7", "name": "Jo"},
        ),
        ("<custId a='b'>7</custId>", {"id": "7"}),
        ("<custId> 7 </custId>", {"id": "7"}),
        ("<custId>7</custId><custId>7</custId>", {"id": "7"}),
        ("<custId>7</custId><custId>8</custId>", {"id": "7"}),
        ("<custId/><custId>8</custId><custId>9</custId>", {"id": "8"}),
        ("<custName>Jo</custName><customer><custName>Al</custName></customer>", {"name": "Jo"}),
        ("<customer><custName>Al</custName></customer><custName>Jo</custName>", {"name": "Al"}),
        (
            "<customer><subacct>1</subacct></customer><customer><subacct>2</subacct></customer>",
            {"store_id": "1"},
        ),
        ("<optinStatus>5</optinStatus><optinStatus>5</optinStatus>", {"status": "opted_out"}),
        (
            "<optinStatus>5</optinStatus><optinStatus>Opted_Out</optinStatus>",
            {"status": "opted_out"},
        ),
        ("<custId>7</custId><customer><custId>7</custId></customer>", {"id": "7"}),
        ("<customer><custId>7</custId></customer><customer/>", {"id": "7"}),
        ("<customer><subacct>Main St</subacct></customer>", {"store_id": "Main St"}),
        ("<custName>Zo\u00eb &amp; Co &lt;3</custName>", {"name": "Zo\u00eb & Co <3"}),
        ("<custName><![CDATA[<b>]]></custName>", {"name": "<b>"}),
        ("<custName><b>Jo</b></custName>", None),
        (f"<custName>{'x' * 300}</custName>", {"name": "x" * 255}),
        ("<optinStatus>5</optinStatus>", {"status": "opted_out"}),
        ("<!-- 5 --><custId>7</custId><?pi?>", {"id": "7"}),
        ("<other>1</other><custId>7</custId>", {"id": "7"}),
        (f"<custMobile>1 {NUMBER}</custMobile>", {"phone_number": f"1 {NUMBER}"}),
    ],
)
def test_fields_are_found_on_both_levels_and_empty_ones_are_none(
    inner: str, customer: dict[str, str] | None
) -> None:
    nobody = Customer(None, None, None, None, None, None)
    expected = replace(nobody, **customer) if customer else None  # type: ignore[arg-type]

    assert read(response(inner)) == Outcome(None, expected, crmtext=OK)


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2014-08-11 14:23:36", datetime(2014, 8, 11, 21, 23, 36, tzinfo=UTC)),  # summer
        ("2014-01-11 14:23:36", datetime(2014, 1, 11, 22, 23, 36, tzinfo=UTC)),  # winter
        ("2026-12-31 23:59:59", datetime(2027, 1, 1, 7, 59, 59, tzinfo=UTC)),
        ("2026-11-01 01:30:00", datetime(2026, 11, 1, 8, 30, tzinfo=UTC)),  # the first of two
        ("2026-03-08 02:30:00", datetime(2026, 3, 8, 10, 30, tzinfo=UTC)),  # left out
        ("2014-08-11T14:23:36Z", None),
        ("2014-08-11", None),
        ("08/11/2014 14:23:36", None),
        ("2014-13-11 14:23:36", None),
        ("0000-00-00 00:00:00", None),
        ("9999-12-31 23:59:59", None),
        ("now", None),
    ],
)
def test_times_are_us_west_coast_time_and_unreadable_ones_are_none(
    local: str, utc: datetime | None
) -> None:
    customer = read(xml(custId="7", timestamp=local)).customer

    assert customer == Customer("7", None, None, None, None, utc)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("1", "new"),
        ("3", "opted_in"),
        ("4", "pending"),
        ("5", "opted_out"),
        ("opted-out", "opted_out"),
        ("opt-out", "opted_out"),
        ("opt out", "opted_out"),
        ("OPTED_OUT", "opted_out"),
        ("Opt-In", "opted_in"),
        ("opted in", "opted_in"),
        ("2", "2"),
        ("optout", "optout"),
        ("opt--out", "opt--out"),
        ("not opted out", "not opted out"),
        ("x", "x"),
    ],
)
def test_the_customers_status_is_translated_or_else_kept_as_it_came(sent: str, status: str) -> None:
    customer = read(xml("404", "not found", optinStatus=sent)).customer

    assert customer == Customer(None, None, status, None, None, None)


TITLES = {
    "404": "CRM Text does not know this customer",
    "401": "CRM Text refused the credentials of store PIZZA",
    "429": "Too many calls to CRM Text",
    "500": "CRM Text reported an internal error",
    "400": "CRM Text refused the request",
}


@pytest.mark.parametrize("http_status", [200, 400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("status", "code", "like"),
    [
        ("400", ErrorCode.CRMTEXT_REJECTED, "400"),
        ("402", ErrorCode.CRMTEXT_REJECTED, "400"),
        ("405", ErrorCode.CRMTEXT_REJECTED, "400"),
        ("422", ErrorCode.CRMTEXT_REJECTED, "400"),
        ("499", ErrorCode.CRMTEXT_REJECTED, "400"),
        ("404", ErrorCode.CUSTOMER_NOT_FOUND, "404"),
        ("401", ErrorCode.CRMTEXT_AUTH_FAILED, "401"),
        ("403", ErrorCode.CRMTEXT_AUTH_FAILED, "401"),
        ("408", ErrorCode.CRMTEXT_UNAVAILABLE, "500"),
        ("429", ErrorCode.CRMTEXT_RATE_LIMITED, "429"),
        ("500", ErrorCode.CRMTEXT_UNAVAILABLE, "500"),
        ("503", ErrorCode.CRMTEXT_UNAVAILABLE, "500"),
        ("599", ErrorCode.CRMTEXT_UNAVAILABLE, "500"),
    ],
)
def test_the_status_in_the_xml_decides_whatever_http_says(
    http_status: int, status: str, code: ErrorCode, like: str
) -> None:
    words = CrmTextWords(status, "reason for Error")
    detail = f"{TITLES[like]}: it answered with status {status}."

    assert read(xml(status, "reason for Error"), http_status) == Outcome(
        Failure(code, detail, words), crmtext=words
    )


@pytest.mark.parametrize(
    ("http_status", "name"),
    [
        (200, "opted_out"),
        (201, "opted_out"),
        (301, "crmtext_invalid_response"),
        (302, "crmtext_invalid_response"),
        (307, "crmtext_invalid_response"),
        (400, "crmtext_invalid_response"),
        (401, "crmtext_invalid_response"),
        (404, "crmtext_invalid_response"),
        (500, "crmtext_invalid_response"),
    ],
)
def test_an_xml_200_counts_only_under_an_http_status_that_agrees(
    http_status: int, name: str
) -> None:
    assert name_of(xml(**FIELDS), http_status) == name


@pytest.mark.parametrize(
    ("http_status", "name"),
    [
        (200, "crmtext_invalid_response"),
        (204, "crmtext_invalid_response"),
        (302, "crmtext_invalid_response"),
        (400, "crmtext_invalid_response"),
        (401, "crmtext_auth_failed"),
        (403, "crmtext_auth_failed"),
        (404, "crmtext_invalid_response"),
        (408, "crmtext_unavailable"),
        (410, "crmtext_invalid_response"),
        (422, "crmtext_invalid_response"),
        (429, "crmtext_rate_limited"),
        (500, "crmtext_unavailable"),
        (502, "crmtext_unavailable"),
        (503, "crmtext_unavailable"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><h1>Not Found</h1></html>",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b'{"status": "404"}',
        b"Customer is opted out",
        b'<error status="404"/>',
        b"<response>404</response>",
    ],
)
@pytest.mark.parametrize("method", Method)
def test_without_crm_texts_xml_only_a_few_http_statuses_count(
    http_status: int, name: str, body: bytes, method: Method
) -> None:
    outcome = read(body, http_status, method=method)

    assert outcome.name == name
    assert outcome.crmtext is None
    assert outcome.failure
    assert not outcome.failure.is_refusal


@pytest.mark.parametrize(
    ("http_status", "code", "detail"),
    [
        (
            404,
            ErrorCode.CRMTEXT_INVALID_RESPONSE,
            "CRM Text's answer (HTTP 404) is a surprise.",
        ),
        (
            403,
            ErrorCode.CRMTEXT_AUTH_FAILED,
            "CRM Text refused the credentials of store PIZZA. "
            "CRM Text's answer (HTTP 403) is a surprise.",
        ),
    ],
)
def test_a_failure_without_xml_names_the_http_status_and_a_store_that_is_refused(
    http_status: int, code: ErrorCode, detail: str
) -> None:
    question = Question(Method.OPT_OUT, NUMBER, "PIZZA")

    assert without_xml(question, http_status, "is a surprise") == Outcome(Failure(code, detail))


@pytest.mark.parametrize("status", ["400", "404", "409", "500"])
@pytest.mark.parametrize(
    "message",
    [
        "Customer is opted out",
        "Customer is Opted-Out",
        "Customer is already opted out",
        "customer is already opted-out.",
        "CUSTOMER IS OPTED OUT.",
        " Customer  is opted out ",
    ],
)
def test_a_customer_who_is_already_opted_out_is_a_success(status: str, message: str) -> None:
    assert read(xml(status, message)) == Outcome(
        None, None, already_opted_out=True, crmtext=CrmTextWords(status, message)
    )


def test_the_fields_of_a_customer_who_is_already_opted_out_are_kept() -> None:
    assert read(xml("400", "Customer is Opted-Out", **FIELDS)).customer == JOHN


@pytest.mark.parametrize(
    "message",
    [
        "Customer is not opted out",
        "Customer is opted in",
        "Customer was opted out",
        "Customer is opted out of nothing",
        "The Customer is opted out",
        "Customer is opted_out",
        "Customer is optedout",
        "Customer is opted out!",
        "Customer is opted out..",
        "Customer is already already opted out",
        "opted out",
        "",
    ],
)
def test_no_other_message_means_already_opted_out(message: str) -> None:
    assert name_of(xml("400", message)) == "crmtext_rejected"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (xml(**FIELDS | {"optinStatus": "3"}), INVALID),
        (xml(**FIELDS | {"optinStatus": "1"}), INVALID),
        (xml(**FIELDS | {"optinStatus": "opted out"}), "opted_out"),
        (xml(**FIELDS | {"optinStatus": "opted in"}), INVALID),
        (xml(**FIELDS | {"optinStatus": "out"}), INVALID),
        (xml(**FIELDS | {"optinStatus": ""}), "opted_out"),
        (xml(**FIELDS | {"custMobile": "9995551235"}), INVALID),
        (xml(**FIELDS | {"custMobile": "unknown"}), INVALID),
        (xml(**FIELDS | {"custMobile": f"44{NUMBER}"}), INVALID),
        (xml(**FIELDS | {"custMobile": f"1{NUMBER}"}), "opted_out"),
        (xml(**FIELDS | {"custMobile": "(999) 555-1234"}), "opted_out"),
        (xml(**FIELDS | {"custMobile": ""}), "opted_out"),
        (xml("404", "not found", **FIELDS | {"custMobile": "9995551235"}), INVALID),
        (xml("400", "Customer is opted out", **FIELDS | {"custMobile": "9995551235"}), INVALID),
        (xml("400", "Customer is opted out", **FIELDS | {"optinStatus": "3"}), INVALID),
        (response("<optinStatus>5</optinStatus><optinStatus>3</optinStatus>"), INVALID),
        (response("<optinStatus>5</optinStatus><optinStatus>opt-in</optinStatus>"), INVALID),
        (
            response(
                "<optinStatus>5</optinStatus><customer><optinStatus>3</optinStatus></customer>"
            ),
            INVALID,
        ),
        (
            response(
                f"<customer><custMobile>{NUMBER}</custMobile></customer>"
                "<customer><custMobile>9995551235</custMobile></customer>"
            ),
            INVALID,
        ),
        (response(op="optincustomer"), INVALID),
        (response(op="getcustomerinfo", status="404"), INVALID),
        (response(op="optincustomer", status="400", message="Customer is opted out"), INVALID),
        (response(op=""), "opted_out"),
        (response(op="OptOutCustomer"), "opted_out"),
        ('<response status="200"/>', "opted_out"),
        ('<response status="404"/>', "customer_not_found"),
        ('<response message="ok"/>', INVALID),
        ('<response op="optoutcustomer"/>', INVALID),
        *(
            (response(status=status), INVALID)
            for status in (
                "",
                "0",
                "20",
                "2000",
                "200 ",
                "+200",
                "ok",
                "100",
                "201",
                "204",
                "302",
                "600",
                "4xx",
                "\u0662\u0660\u0660",
                "200.0",
                "2e2",
            )
        ),
        (response(status="302", message="Customer is opted out"), INVALID),
        (response("<status>200</status>", status="500"), "crmtext_unavailable"),
        ('<r:response xmlns:r="x" status="200"/>', INVALID),
        ('<Response status="200"/>', INVALID),
        ('<responses><response status="200"/></responses>', INVALID),
        ('<response status="200" status="404"/>', INVALID),
        ('<response status="200"/><response status="404"/>', INVALID),
        ('<response status="200"/>trailing', INVALID),
        ('<response status="200">', INVALID),
        ('<response status="200"><customer></response>', INVALID),
        ('<response status="200"><custName>&undefined;</custName></response>', INVALID),
        ('<response status="200"><custName>\0</custName></response>', INVALID),
        ('<response status="200"><custName>&#0;</custName></response>', INVALID),
        (" \n" + response(), "opted_out"),
        (' <?xml version="1.0"?>' + response(), INVALID),
        (response() + "\n<!-- page served in 3 ms -->\n", "opted_out"),
        ("<a>" * 100_000, INVALID),
        (f'<response status="200">{"<a>" * 50_000}{"</a>" * 50_000}</response>', "opted_out"),
    ],
    ids=lambda given: given[:60] if isinstance(given, str) else None,
)
def test_an_answer_that_is_odd_or_contradicts_itself_is_not_trusted(
    body: bytes | str, name: str
) -> None:
    assert name_of(body) == name


def test_a_refusal_keeps_what_is_known_about_the_customer_and_a_contradiction_does_not() -> None:
    assert read(xml("404", "not found", **FIELDS)).customer == JOHN
    assert read(xml("500", "oops", **FIELDS)).customer is None
    assert read(xml(**FIELDS | {"optinStatus": "3"})).customer is None


def test_an_answer_without_status_and_message_has_no_words() -> None:
    outcome = read("<response><custId>7</custId></response>")

    assert outcome == Outcome(
        Failure(
            ErrorCode.CRMTEXT_INVALID_RESPONSE,
            "CRM Text's answer has no status, or an unknown one.",
        )
    )
