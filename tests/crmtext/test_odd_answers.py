"""Answers in odd encodings, with document types, secrets or any bytes at all."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.consent import Customer, Outcome
from gateway.errors import CrmTextWords, ErrorCode, Failure
from tests.support.crmtext_answers import INVALID, name_of, read, response
from tests.support.factories import NUMBER
from tests.support.fake_crmtext import xml

DOCTYPES = [
    "<!DOCTYPE response>",
    '<!DOCTYPE response SYSTEM "http://127.0.0.1:9/crm.dtd">',
    '<!DOCTYPE response PUBLIC "-//x" "file:///etc/passwd">',
    '<!DOCTYPE response [<!ATTLIST response status CDATA "200">]>',
    '<!DOCTYPE response [<!ENTITY a "5">]>',
    '<!DOCTYPE response [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    "<!DOCTYPE response[]>",
    "<!-- a comment before it --><!DOCTYPE response>",
]


@pytest.mark.parametrize("doctype", DOCTYPES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
def test_a_document_type_is_refused_in_every_encoding(doctype: str, encoding: str) -> None:
    names = {"utf-8-sig": "utf-8", "utf-16-be": "utf-16", "latin-1": "iso-8859-1"}
    declared = names.get(encoding, encoding)
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    body = f'{mark}<?xml version="1.0" encoding="{declared}"?>{doctype}{response()}'

    assert read(body.encode(encoding)) == Outcome(
        Failure(
            ErrorCode.CRMTEXT_INVALID_RESPONSE,
            "CRM Text's answer (HTTP 200) declares a document type.",
        )
    )


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252", "us-ascii"]
)
def test_xml_is_read_in_the_encoding_that_it_declares(encoding: str) -> None:
    name = "Zoe" if encoding == "us-ascii" else "Zo\u00eb"
    declared = encoding.removesuffix("-sig")
    body = f'<?xml version="1.0" encoding="{declared}"?>{response(f"<custName>{name}</custName>")}'

    customer = read(body.encode(encoding)).customer
    assert customer == Customer(None, name, None, None, None, None)


@pytest.mark.parametrize("declared", ["utf-7", "klingon", "utf-16", "big5", "rot13", "idna", "zip"])
def test_an_unknown_or_wrong_encoding_is_not_readable(declared: str) -> None:
    body = f'<?xml version="1.0" encoding="{declared}"?>{response()}'

    assert name_of(body) == INVALID


@pytest.mark.parametrize("body", [b'<response status="200" message="\xff"/>', b"\xff\xfe<", b"\0"])
def test_broken_bytes_are_not_readable(body: bytes) -> None:
    assert name_of(body) == INVALID


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("bad login pizzeria:p&zz=a s:cret:PIZZA", "bad login [secret]"),
        ("bad login PIZZERIA:P&ZZ=A S:CRET:pizza", "bad login [secret]"),
        ("password p&zz=a s:cret is wrong", "password [secret] is wrong"),
        ("user=pizzeria&pass=p%26zz%3Da%20s%3Acret", "user=[secret]&pass=[secret]"),
        ("pass=p%26zz%3Da+s%3Acret", "pass=[secret]"),
        ("Basic cGl6emVyaWE6cA==", "Basic [secret]"),
        ("Basic cGl6emVyaWE6cA%3D%3D", "Basic [secret]"),
        (f"{NUMBER} cannot receive messages", "********** cannot receive messages"),
        ("(999) 555-1234, try in 30 s", "(***) ***-****, try in ** s"),
        ("\u0669\u0669 and \uff11", "** and *"),
        ("x" * 300, "x" * 255),
        ("x" * 250 + "p&zz=a s:cret", "x" * 250 + "[secr"),
        ("reason for Error", "reason for Error"),
    ],
)
def test_secrets_and_digits_in_a_message_are_masked(message: str, shown: str) -> None:
    outcome = read(xml("400", message))

    assert outcome.crmtext == CrmTextWords("400", shown)
    assert outcome.failure
    assert outcome.failure.crmtext == CrmTextWords("400", shown)
    assert message not in outcome.failure.detail


def test_an_odd_status_is_shown_masked_too() -> None:
    assert read(xml(f"{NUMBER} pizzeria", "")).crmtext == CrmTextWords("********** [secret]", None)


attributes = st.one_of(
    st.sampled_from(["200", "404", "400", "500", "5", "3", "", "ok", "Customer is opted out"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12),
)
statuses = st.sampled_from([200, 204, 302, 400, 401, 404, 500]) | st.integers(100, 999)


@given(
    st.binary(max_size=200) | st.text('<>/="!?&;#[]responsetau 0245\0\u00eb', max_size=80), statuses
)
@example(b'<response status="200">', 200)
def test_no_bytes_make_the_reader_raise_or_report_a_success(
    body: bytes | str, http_status: int
) -> None:
    outcome = read(body if isinstance(body, bytes) else body.encode(), http_status)

    assert outcome.failure
    assert not outcome.failure.is_refusal


@given(
    http_status=statuses,
    op=st.sampled_from(["optoutcustomer", "optincustomer", ""]),
    status=attributes,
    message=attributes,
    opt_in_status=st.none() | attributes,
    mobile=st.none() | st.sampled_from([NUMBER, f"+1{NUMBER}", "9995551235"]) | attributes,
)
def test_success_needs_a_200_without_contradiction_or_the_message_already_opted_out(
    *,
    http_status: int,
    op: str,
    status: str,
    message: str,
    opt_in_status: str | None,
    mobile: str | None,
) -> None:
    fields = {"optinStatus": opt_in_status, "custMobile": mobile}
    body = xml(status, message, op, **{name: text for name, text in fields.items() if text})

    worked = status == "200" and http_status < 300
    already = re.fullmatch("[45][0-9]{2}", status) and message == "Customer is opted out"
    agrees = (opt_in_status or "").strip() in ("", "5") and (
        not mobile or mobile.strip() in ("", NUMBER, f"+1{NUMBER}")
    )
    is_ours = op != "optincustomer" and not 300 <= http_status < 400
    believed = is_ours and agrees and (worked or already)
    assert (read(body, http_status).failure is None) == bool(believed)
