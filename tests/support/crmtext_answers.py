"""CRM Text's answers as bytes, and what the gateway reads in them."""

from datetime import UTC, datetime
from xml.sax.saxutils import quoteattr

from gateway.consent import Customer, Outcome
from gateway.crmtext.answers import Method, Question, read_answer, scrub_for
from gateway.errors import CrmTextWords
from tests.support.factories import NUMBER

SECRETS = ("pizzeria:p&zz=a s:cret:PIZZA", "p&zz=a s:cret", "pizzeria", "cGl6emVyaWE6cA==")
SCRUB = scrub_for(SECRETS)
OK = CrmTextWords("200", "ok")
JOHN = Customer(
    id="1234567891011",
    name="John Queue",
    status="opted_out",
    store_id="456",
    phone_number=NUMBER,
    updated_at=datetime(2014, 8, 11, 21, 23, 36, tzinfo=UTC),
)
FIELDS = {
    "custId": "1234567891011",
    "subacct": "456",
    "timestamp": "2014-08-11 14:23:36",
    "optinStatus": "5",
    "custName": "John Queue",
    "custMobile": NUMBER,
}
INVALID = "crmtext_invalid_response"


def read(body: bytes | str, http_status: int = 200, *, method: Method = Method.OPT_OUT) -> Outcome:
    question = Question(method, NUMBER, "PIZZA")
    content = body if isinstance(body, bytes) else body.encode()
    return read_answer(question, http_status, content, SCRUB)


def name_of(body: bytes | str, http_status: int = 200) -> str:
    return read(body, http_status).name


def response(inner: str = "", **attributes: str) -> str:
    given = {"op": "optoutcustomer", "status": "200", "message": "ok"} | attributes
    text = "".join(f" {name}={quoteattr(value)}" for name, value in given.items())
    return f"<response{text}>{inner}</response>"
