"""The call to CRM Text: its form, its credentials, and every way in which a call can go wrong."""

import base64
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode

from gateway.accounts import Store
from gateway.consent import LookUp, Outcome
from gateway.crmtext.answers import Method, Question, Scrub, read_answer, scrub_for, without_xml
from gateway.deadline_http.client import DeadlineHttp
from gateway.deadline_http.exchange import HttpAnswer, NotHttp
from gateway.errors import ErrorCode, Failure

_LONGEST_WAIT_SECONDS = 6 * 60 * 60


class CrmText:
    """Opts customers out and looks them up, over connections that all threads share."""

    def __init__(self, url: str, timeout_seconds: float, stores: Iterable[Store]) -> None:
        self._http = DeadlineHttp(url, timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._stores = {store.keyword: (_headers(store), _scrub(store)) for store in stores}

    def opt_out(self, phone_number: str, store: str) -> Outcome:
        """Asks CRM Text once. Whatever goes wrong out there is an Outcome, never an exception."""
        return self._ask(Question(Method.OPT_OUT, phone_number, store))

    def look_up(self, phone_number: str, store: str) -> LookUp:
        """Asks CRM Text once about a customer, and changes nothing; it never raises either."""
        outcome = self._ask(Question(Method.LOOK_UP, phone_number, store))
        return LookUp(outcome.failure, outcome.customer, outcome.http_status, outcome.crmtext)

    def _ask(self, question: Question) -> Outcome:
        if question.store not in self._stores:
            what = f"CRMTEXT_AUTH_STRINGS has no entry for store {question.store}."
            return Outcome(Failure(ErrorCode.CRMTEXT_AUTH_FAILED, what))
        headers, scrub = self._stores[question.store]
        form = urlencode({"method": question.method, "phone_number": question.phone_number})
        try:
            with self._http.post(headers, form.encode()) as answer:
                outcome = _outcome(question, answer, scrub)
                if _is_crm_texts(outcome):
                    answer.trust()
        except TimeoutError:
            what = f"CRM Text gave no complete answer within {self._timeout_seconds:g} seconds."
            return Outcome(Failure(ErrorCode.CRMTEXT_TIMEOUT, what))
        except OSError as error:
            what = f"There was no connection to CRM Text, or it was lost ({type(error).__name__})."
            return Outcome(Failure(ErrorCode.CRMTEXT_UNREACHABLE, what))
        except NotHttp:
            what = "CRM Text's answer is not HTTP, or was cut short."
            return Outcome(Failure(ErrorCode.CRMTEXT_INVALID_RESPONSE, what))
        return outcome


def _outcome(question: Question, answer: HttpAnswer, scrub: Scrub) -> Outcome:
    if answer.flaw:
        outcome = without_xml(question, answer.status, answer.flaw)
    else:
        outcome = read_answer(question, answer.status, answer.body, scrub)
    failure = outcome.failure
    if failure:
        failure = replace(failure, retry_after=_retry_after(answer.headers.get("retry-after", "")))
    return replace(outcome, failure=failure, http_status=answer.status)


def _is_crm_texts(outcome: Outcome) -> bool:
    """Whether it is CRM Text's XML, and fits what was asked: what does not may be another's."""
    is_invalid = outcome.failure and outcome.failure.code is ErrorCode.CRMTEXT_INVALID_RESPONSE
    return outcome.crmtext is not None and not is_invalid


def _headers(store: Store) -> dict[str, str]:
    return {
        "Authorization": f"Basic {_basic_credentials(store)}",
        "Accept": "text/xml, application/xml",
        "Accept-Encoding": "identity",
        "User-Agent": "crmtext-gateway",
        "Content-Type": "application/x-www-form-urlencoded",
    }


def _basic_credentials(store: Store) -> str:
    return base64.b64encode(store.auth_string.encode()).decode()


def _scrub(store: Store) -> Scrub:
    return scrub_for((*store.secrets, _basic_credentials(store)))


def _retry_after(text: str) -> int | None:
    """Seconds from a Retry-After header in either of its forms, believed up to six hours."""
    if re.fullmatch("[0-9]{1,9}", text):
        return min(int(text), _LONGEST_WAIT_SECONDS)
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(math.ceil(seconds), 0), _LONGEST_WAIT_SECONDS)
