"""CRM Text's answers: its XML, its fields, its clock and its statuses, turned into an Outcome.

What CRM Text sends comes from the vendor's documentation of its REST API (method OptOutCustomer)
and, where that is silent, from public client programs: answers nested in a ``customer`` element,
errors under HTTP 200, and the error's text for a customer who is opted out already.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import quote, quote_plus
from xml.parsers import expat
from zoneinfo import ZoneInfo

import xmltodict

from gateway.consent import Customer, Outcome
from gateway.errors import ERRORS, CrmTextWords, ErrorCode, Failure
from gateway.phone_number import read_phone_number

CUSTOMER_STATUSES = {"1": "new", "3": "opted_in", "4": "pending", "5": "opted_out"}

_OPTED_OUT = "5"
# The store's callback was seen to say the status in words.
_STATUSES_IN_WORDS = {
    "opt out": _OPTED_OUT,
    "opted out": _OPTED_OUT,
    "opt in": "3",
    "opted in": "3",
}
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
# Beside ``op`` and ``status``, which are attributes, and so cannot be said twice.
_DECISIVE_FIELDS = ("optinStatus", "custMobile")

_NOTHING_KNOWN = Customer(None, None, None, None, None, None)

Scrub = Callable[[str], str]


class Method(StrEnum):
    """What CRM Text can be asked to do."""

    OPT_OUT = "optoutcustomer"
    LOOK_UP = "getcustomerinfo"


@dataclass(frozen=True)
class Question:
    """What CRM Text was asked, and so what its answer has to be about."""

    method: Method
    phone_number: str
    store: str


def scrub_for(secrets: Iterable[str]) -> Scrub:
    """A function that masks these secrets, in any usual spelling, and all digits in a text."""
    spellings = {spelt for text in secrets for spelt in (text, quote(text), quote_plus(text))}
    longest_first = sorted(spellings, key=len, reverse=True)
    secret = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
    return lambda text: re.sub(r"\d", "*", secret.sub("[secret]", text))[:_LONGEST_TEXT]


def read_answer(question: Question, http_status: int, body: bytes, scrub: Scrub) -> Outcome:
    """Judges an answer that arrived whole: its XML decides, HTTP only where there is no XML.

    Without a failure the customer is opted out or, after a look-up, ``customer`` is not None.
    """
    if 300 <= http_status < 400:
        return without_xml(question, http_status, "is a redirect, which is never followed")
    try:
        answer = _parse(body)
    except _Unreadable as error:
        return without_xml(question, http_status, str(error))
    words = _words(answer, scrub)
    verdict = _judge(question, http_status, answer)
    if verdict is None:
        return _success(question, answer, words)
    failure = Failure(*verdict, words)
    customer = _customer(answer) if failure.is_refusal else None
    return Outcome(failure, customer, crmtext=words)


def without_xml(question: Question, http_status: int, why: str) -> Outcome:
    """What an answer without CRM Text's XML means; ``why`` completes a sentence about it.

    Only a few of HTTP's statuses mean something: a proxy's 404 must never end an opt-out.
    """
    code = _code_of(http_status) or ErrorCode.CRMTEXT_INVALID_RESPONSE
    detail = f"CRM Text's answer (HTTP {http_status}) {why}."
    if code is ErrorCode.CRMTEXT_AUTH_FAILED:
        detail = f"{_title(code, question.store)}. {detail}"
    return Outcome(Failure(code, detail))


@dataclass(frozen=True)
class _Answer:
    """CRM Text's XML, taken apart but not yet judged; ``op`` and so on are empty if absent.

    ``fields`` holds those that are there and not empty.
    """

    op: str
    status: str
    message: str
    fields: Mapping[str, str]

    @property
    def says_opted_out_already(self) -> bool:
        return bool(_ALREADY.fullmatch(" ".join(self.message.split())))


class _Unreadable(Exception):
    """A body is not CRM Text's XML; the message says why and completes a sentence."""


def _words(answer: _Answer, scrub: Scrub) -> CrmTextWords | None:
    """What the answer said of itself, masked; None if it said nothing."""
    is_plain = re.fullmatch("[0-9]{3}", answer.status)
    status = answer.status if is_plain else scrub(answer.status)
    message = scrub(answer.message)
    return CrmTextWords(status or None, message or None) if status or message else None


def _success(question: Question, answer: _Answer, words: CrmTextWords | None) -> Outcome:
    already = answer.status != "200"
    customer = _customer(answer)
    if already and question.method is Method.LOOK_UP:
        customer = replace(customer or _NOTHING_KNOWN, status=CUSTOMER_STATUSES[_OPTED_OUT])
    return Outcome(None, customer, already_opted_out=already, crmtext=words)


def _judge(question: Question, http_status: int, answer: _Answer) -> tuple[ErrorCode, str] | None:
    """What is wrong with the answer; None if it says that what was asked for is done."""
    wrong = _contradiction(question, http_status, answer)
    if wrong:
        return ErrorCode.CRMTEXT_INVALID_RESPONSE, f"CRM Text's answer {wrong}."
    if answer.status == "200" or answer.says_opted_out_already:
        return None
    status = int(answer.status)
    code = ErrorCode.CUSTOMER_NOT_FOUND if status == 404 else _code_of(status)
    code = code or ErrorCode.CRMTEXT_REJECTED
    return code, f"{_title(code, question.store)}: it answered with status {status}."


def _contradiction(question: Question, http_status: int, answer: _Answer) -> str | None:
    if answer.op.lower() not in ("", question.method):
        return "is for another method"
    if not re.fullmatch("200|[45][0-9]{2}", answer.status):
        return "has no status, or an unknown one"
    if answer.status == "200" and http_status >= 400:
        return f"says status 200 in its XML, but {http_status} in HTTP"
    mobile = answer.fields.get("custMobile")
    if mobile and not _is(mobile, question.phone_number):
        return "is about another phone number"
    if answer.status != "200" and not answer.says_opted_out_already:
        return None
    if question.method is Method.OPT_OUT:
        is_out = answer.fields.get("optinStatus", _OPTED_OUT) == _OPTED_OUT
        return None if is_out else "says that it worked, but shows the customer as not opted out"
    if answer.status == "200" and not _customer(answer):
        return "says that it worked, but describes no customer"
    return None


def _title(code: ErrorCode, store: str) -> str:
    if code is ErrorCode.CRMTEXT_AUTH_FAILED:
        return f"CRM Text refused the credentials of store {store}"
    return ERRORS[code].title


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
        raise _Unreadable("is not XML") from error
    response = document.get("response")
    if not isinstance(response, dict):
        raise _Unreadable("is not CRM Text's XML")
    return _Answer(
        op=response.get("@op", ""),
        status=response.get("@status", ""),
        message=response.get("@message", ""),
        fields=_fields(response),
    )


def _fields(response: Mapping[str, object]) -> Mapping[str, str]:
    """The texts of all fields: of one that comes twice the first, unless it is a decisive one."""
    fields: dict[str, str] = {}
    for name, text in _texts(response):
        if name == "optinStatus":
            text = _STATUSES_IN_WORDS.get(re.sub("[-_]", " ", text).lower(), text)  # noqa: PLW2901
        if fields.setdefault(name, text) != text and name in _DECISIVE_FIELDS:
            raise _Unreadable(f"says {name} twice, and differently")
    return fields


def _texts(response: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each field that is not empty, flat in ``response`` or nested in a ``customer``."""
    for name, element in _children(response):
        fields = _children(element) if name == "customer" else [(name, element)]
        for field, content in fields:
            text = content.get("#text") if isinstance(content, dict) else content
            if isinstance(text, str) and text:
                yield field, text


def _children(element: object) -> Iterator[tuple[str, object]]:
    """Name and content of each element within, those of one name together."""
    for name, content in element.items() if isinstance(element, dict) else ():
        for one in content if isinstance(content, list) else [content]:
            yield name, one


def _customer(answer: _Answer) -> Customer | None:
    texts = {name: text[:_LONGEST_TEXT] for name, text in answer.fields.items()}
    status = texts.get("optinStatus")
    customer = Customer(
        id=texts.get("custId"),
        name=texts.get("custName"),
        status=CUSTOMER_STATUSES.get(status, status) if status else None,
        store_id=texts.get("subacct"),
        phone_number=texts.get("custMobile"),
        updated_at=_time(texts.get("timestamp", "")),
    )
    return None if customer == _NOTHING_KNOWN else customer


def _time(text: str) -> datetime | None:
    try:
        local = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CLOCK)
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _is(text: str, phone_number: str) -> bool:
    return read_phone_number(text).digits == phone_number
