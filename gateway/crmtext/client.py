"""The call to CRM Text: its form, its credentials, and every way in which a call can go wrong."""

import base64
import math
import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, RemoteDisconnected

import requests
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError

from gateway.accounts import Store
from gateway.consent import LookUp, Outcome
from gateway.crmtext.answers import (
    Method,
    Question,
    Scrub,
    read_answer,
    scrub_for,
    without_xml,
)
from gateway.deadline_http import DeadlineHttp
from gateway.errors import ErrorCode, Failure

_LARGEST_ANSWER = 1024 * 1024
_LONGEST_WAIT_SECONDS = 6 * 60 * 60


class CrmText:
    """Opts customers out and looks them up, over connections that all threads share."""

    def __init__(self, url: str, timeout_seconds: float, stores: Iterable[Store]) -> None:
        self._http = DeadlineHttp(url, timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._stores = {store.keyword: (_request(url, store), _scrub(store)) for store in stores}

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
        template, scrub = self._stores[question.store]
        request = template.copy()
        form = {"method": question.method, "phone_number": question.phone_number}
        request.prepare_body(form, None)
        try:
            response = self._http.send(request)
        except requests.RequestException as error:
            return Outcome(self._no_answer(error))
        with closing(response):  # back in the pool if it was read to its end, else cut
            outcome = self._outcome(question, response, scrub)
        failure = outcome.failure
        if failure:
            retry_after = _retry_after(response.headers.get("Retry-After", ""))
            failure = replace(failure, retry_after=retry_after)
        return replace(outcome, failure=failure, http_status=response.status_code)

    def _outcome(self, question: Question, response: requests.Response, scrub: Scrub) -> Outcome:
        status = response.status_code
        try:
            body: bytes = response.raw.read(_LARGEST_ANSWER + 1, decode_content=True)
        except ReadTimeoutError:
            return Outcome(self._timed_out())
        except (HTTPError, ValueError) as error:  # a negative chunk size is a ValueError
            why = f"was cut short or is garbled ({type(error).__name__})"
            return without_xml(question, status, why)
        if len(body) > _LARGEST_ANSWER:
            return without_xml(question, status, "is larger than 1 MiB")
        return read_answer(question, status, body, scrub)

    def _no_answer(self, error: requests.RequestException) -> Failure:
        if isinstance(error, requests.Timeout):
            return self._timed_out()
        cause = _root(error)
        is_broken_http = isinstance(cause, HTTPException | InvalidHeader)
        if is_broken_http and not isinstance(cause, RemoteDisconnected):
            what = f"CRM Text's answer is not HTTP ({type(cause).__name__})."
            return Failure(ErrorCode.CRMTEXT_INVALID_RESPONSE, what)
        what = f"There was no connection to CRM Text, or it was lost ({type(cause).__name__})."
        return Failure(ErrorCode.CRMTEXT_UNREACHABLE, what)

    def _timed_out(self) -> Failure:
        what = f"CRM Text gave no complete answer within {self._timeout_seconds:g} seconds."
        return Failure(ErrorCode.CRMTEXT_TIMEOUT, what)


def _request(url: str, store: Store) -> requests.PreparedRequest:
    """The call without its body: prepared once, since preparing it costs more than sending it."""
    headers = {
        "Authorization": f"Basic {_basic_credentials(store)}",
        "Accept": "text/xml, application/xml",
        "Accept-Encoding": "identity",
        "User-Agent": "crmtext-gateway",
    }
    # No Session prepares it, so no .netrc entry can replace the Authorization header.
    return requests.Request("POST", url, headers=headers).prepare()


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


def _root(error: BaseException) -> BaseException:
    """What lies under the wrappings of requests and urllib3."""
    within = (getattr(error, "reason", None), *reversed(error.args), error.__cause__)
    inner = next((one for one in within if isinstance(one, BaseException)), None)
    return error if inner is None else _root(inner)
