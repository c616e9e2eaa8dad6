"""CRM Text's answers: its XML, its fields, its clock and its statuses, turned into an Outcome.

What CRM Text sends comes from the vendor's documentation of its REST API (method OptOutCustomer)
and, where that is silent, from public client programs: answers nested in a ``customer`` element,
errors under HTTP 200, and the error's text for a customer who is opted out already.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus
from xml.parsers import expat
from zoneinfo import ZoneInfo

import xmltodict

from gateway.consent import Customer, Outcome
from gateway.errors import ERRORS, CrmTextWords, ErrorCode, Failure
from gateway.phone_number import read_phone_number

METHOD = "optoutcustomer"
CUSTOMER_STATUSES = {"1": "new", "3": "opted_in", "4": "pending", "5": "opted_out"}

_OPTED_OUT = "5"
_LONGEST_TEXT = 255
# "All times are Pacific Standard Time"; whether summer time applies is not said.
_CLOCK = ZoneInfo("America/Los_Angeles")
_ALREADY = re.compile(r"customer is (already )?opted[- ]out\.?", re.IGNORECASE)
_STATUS_CODES = {
    401: ErrorCode.CRMTEXT_AUTH_FAILED,
    403: ErrorCode.CRMTEXT_AUTH_FAILED,
    408: ErrorCode.CRMTEXT_UNAVAILABLE,
    429: ErrorCode.CRMTEXT_RATE_LIMITED,
}
_FIELDS = ("custId", "custName", "optinStatus", "subacct", "custMobile", "timestamp")

Scrub = Callable[[str], str]


def scrub_for(secrets: Iterable[str]) -> Scrub:
    """A function that masks these secrets, in any usual spelling, and all digits in a text."""
    spellings = {spelt for text in secrets for spelt in (text, quote(text), quote_plus(text))}
    longest_first = sorted(spellings, key=len, reverse=True)
    secret = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
    return lambda text: re.sub(r"\d", "*", secret.sub("[secret]", text))[:_LONGEST_TEXT]


def read_answer(http_status: int, body: bytes, phone_number: str, scrub: Scrub) -> Outcome:
    """Judges an answer that arrived whole: its XML decides, HTTP only where there is no XML."""
    if 300 <= http_status < 400:
        return Outcome(without_xml(http_status, "is a redirect, which is never followed"))
    try:
        answer = _parse(body)
    except _Unreadable as error:
        return Outcome(without_xml(http_status, str(error)))
    words = _words(answer, scrub)
    verdict = _judge(http_status, answer, phone_number)
    if verdict is None:
        already = answer.status != "200"
        return Outcome(None, _customer(answer), already_opted_out=already, crmtext=words)
    failure = Failure(*verdict, words)
    customer = _customer(answer) if failure.is_refusal else None
    return Outcome(failure, customer, crmtext=words)


def without_xml(http_status: int, why: str) -> Failure:
    """What an answer without CRM Text's XML means; ``why`` completes a sentence about it.

    Only a few of HTTP's statuses mean something: a proxy's 404 must never end an opt-out.
    """
    code = _code_of(http_status) or ErrorCode.CRMTEXT_INVALID_RESPONSE
    return Failure(code, f"CRM Text's answer (HTTP {http_status}) {why}.")


@dataclass(frozen=True)
class _Answer:
    """CRM Text's XML, taken apart but not yet judged; what is absent is an empty text."""

    op: str
    status: str
    message: str
    fields: Mapping[str, str]


class _Unreadable(Exception):
    """A body is not CRM Text's XML; the message says why and completes a sentence."""


def _words(answer: _Answer, scrub: Scrub) -> CrmTextWords | None:
    """What the answer said of itself, masked; None if it said nothing."""
    is_plain = re.fullmatch("[0-9]{3}", answer.status)
    status = answer.status if is_plain else scrub(answer.status)
    message = scrub(answer.message)
    return CrmTextWords(status or None, message or None) if status or message else None


def _judge(http_status: int, answer: _Answer, phone_number: str) -> tuple[ErrorCode, str] | None:
    """What is wrong with the answer; None if the customer is opted out."""
    wrong = _contradiction(http_status, answer, phone_number)
    if wrong:
        return ErrorCode.CRMTEXT_INVALID_RESPONSE, f"CRM Text's answer {wrong}."
    if answer.status == "200" or _ALREADY.fullmatch(" ".join(answer.message.split())):
        return None
    status = int(answer.status)
    code = ErrorCode.CUSTOMER_NOT_FOUND if status == 404 else _code_of(status)
    code = code or ErrorCode.CRMTEXT_REJECTED
    return code, f"{ERRORS[code].title}: it answered with status {status}."


def _contradiction(http_status: int, answer: _Answer, phone_number: str) -> str | None:
    if answer.op.lower() not in ("", METHOD):
        return "is for another method"
    if not re.fullmatch("200|[45][0-9]{2}", answer.status):
        return "has no status, or one that is not known"
    if answer.status == "200" and http_status >= 400:
        return f"says status 200 in its XML, but {http_status} in HTTP"
    if answer.status != "200":
        return None
    if answer.fields["optinStatus"] not in ("", _OPTED_OUT):
        return "says that it worked, but shows the customer as not opted out"
    if answer.fields["custMobile"] and not _is(answer.fields["custMobile"], phone_number):
        return "is about another phone number"
    return None


def _code_of(status: int) -> ErrorCode | None:
    return ErrorCode.CRMTEXT_UNAVAILABLE if 500 <= status < 600 else _STATUS_CODES.get(status)


class _Expat:
    """What xmltodict calls for its parser: expat, but a document type declaration is refused.

    A declaration can supply attributes of its own, status="200" among them.
    """

    @staticmethod
    def ParserCreate(  # noqa: N802, expat's name
        encoding: str | None, namespace_separator: str | None
    ) -> expat.XMLParserType:
        parser = expat.ParserCreate(encoding, namespace_separator)
        parser.StartDoctypeDeclHandler = _refuse_doctype
        return parser


def _refuse_doctype(*_: object) -> None:
    raise _Unreadable("declares a document type")


def _parse(body: bytes) -> _Answer:
    try:
        document = xmltodict.parse(body, expat=_Expat)
    except (expat.ExpatError, ValueError, LookupError, RecursionError) as error:
        raise _Unreadable(f"is no XML ({type(error).__name__})") from error
    response = document.get("response")
    if not isinstance(response, dict):
        raise _Unreadable("is not CRM Text's XML")
    places = [response, *_children(response.get("customer"))]
    return _Answer(
        op=response.get("@op", ""),
        status=response.get("@status", ""),
        message=response.get("@message", ""),
        fields={name: _field(name, places) for name in _FIELDS},
    )


def _children(element: object) -> list[dict[str, object]]:
    elements = element if isinstance(element, list) else [element]
    return [child for child in elements if isinstance(child, dict)]


def _field(name: str, places: Iterable[Mapping[str, object]]) -> str:
    """The field's text, wherever it stands: nested in ``customer``, or flat in ``response``."""
    texts = {text for place in places for text in _texts(place.get(name))}
    if len(texts) > 1:
        raise _Unreadable(f"says {name} twice, and differently")
    return texts.pop() if texts else ""


def _texts(element: object) -> Iterator[str]:
    if isinstance(element, list):
        for one in element:
            yield from _texts(one)
    elif isinstance(element, dict):
        yield from _texts(element.get("#text"))
    elif isinstance(element, str) and element:
        yield element


def _customer(answer: _Answer) -> Customer | None:
    fields = {name: text[:_LONGEST_TEXT] or None for name, text in answer.fields.items()}
    if not any(fields.values()):
        return None
    status = fields["optinStatus"]
    return Customer(
        id=fields["custId"],
        name=fields["custName"],
        status=CUSTOMER_STATUSES.get(status, status) if status else None,
        store_id=fields["subacct"],
        phone_number=fields["custMobile"],
        updated_at=_time(fields["timestamp"] or ""),
    )


def _time(text: str) -> datetime | None:
    try:
        local = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CLOCK)
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _is(text: str, phone_number: str) -> bool:
    return read_phone_number(text).digits == phone_number
