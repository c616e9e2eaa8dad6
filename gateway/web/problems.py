"""Turns any exception into a problem (RFC 9457), so that routes need not catch."""

import logging
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from gateway.errors import ERRORS, ErrorCode, Failure, GatewayError
from gateway.logs import request_id
from gateway.web.answers import json_answer
from schemas.problem import ProblemSchema

MEDIA_TYPE = "application/problem+json"

_SCHEMA = ProblemSchema()
_EXPLANATIONS = Path(__file__).with_name("problems.toml")
_FRAMEWORK_CODES = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}
_FRAMEWORK_DETAILS = {
    404: "Nothing found at this address.",
    405: "This address does not accept the method.",
    413: "The body is larger than this address accepts.",
}
# What the caller of a wrong address or method probably has to know.
_HINTS = (
    (405, re.compile("GET /v1/opt-outs(/search)?"), "To search, use POST /v1/opt-outs/search."),
    (
        404,
        re.compile("[A-Z]+ /v1/opt-outs/[^/]+(/attempts|/retry)?"),
        "The id of an opt-out looks like 8e03978e-40d5-43dd-bc93-6894a57f9324.",
    ),
)

_log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    app.register_error_handler(GatewayError, _raised)
    app.register_error_handler(HTTPException, _framework_problem)
    app.register_error_handler(Exception, _bug)


@cache
def explanations() -> Mapping[ErrorCode, str]:
    """What each code means and what to do about it, in a paragraph."""
    texts = tomllib.loads(_EXPLANATIONS.read_text(encoding="utf-8"))
    return {ErrorCode(code): " ".join(text.split()) for code, text in texts.items()}


def problem(failure: Failure, opt_out_id: str | None = None) -> Response:
    """The answer for a failure; ``opt_out_id`` if the opt-out is on record nevertheless."""
    kind = ERRORS[failure.code]
    members = {
        "type": f"/problems/{failure.code}",
        "title": kind.title,
        "status": kind.status,
        "code": failure.code,
        "detail": failure.detail,
        "retryable": kind.retryable,
        "request_id": request_id.get(),
    }
    if failure.errors:
        members["errors"] = failure.errors
    if failure.crmtext:
        members["crmtext"] = failure.crmtext
    if opt_out_id:
        members["opt_out"] = {"id": opt_out_id, "location": f"/v1/opt-outs/{opt_out_id}"}
    response = json_answer(_SCHEMA, members, kind.status, media_type=MEDIA_TYPE)
    if kind.retryable:
        seconds = kind.retry_after if failure.retry_after is None else failure.retry_after
        response.headers["Retry-After"] = str(seconds)
    if failure.code == ErrorCode.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _raised(error: GatewayError) -> Response:
    return problem(error.failure, error.opt_out_id)


def _framework_problem(error: HTTPException) -> Response:
    """For what Flask raises by itself; its own words may repeat the address."""
    status = error.code or 500
    code = _FRAMEWORK_CODES.get(status, ErrorCode.INVALID_REQUEST)
    if status >= 500:
        return _bug(error)
    details = [_FRAMEWORK_DETAILS.get(status, f"{HTTPStatus(status).phrase}.")]
    allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    if allowed:
        details.append(f"It accepts {allowed}.")
    asked = f"{request.method} {request.path.rstrip('/')}"
    details += [words for of, what, words in _HINTS if of == status and what.fullmatch(asked)]
    response = problem(Failure(code, " ".join(details)))
    if allowed:
        response.headers["Allow"] = allowed
    return response


def _bug(error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error, extra={"error": type(error).__name__})
    what = "Unexpected error. Search the gateway's log for this request_id."
    return problem(Failure(ErrorCode.INTERNAL_ERROR, what))
