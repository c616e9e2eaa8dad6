"""Every code has its row, as the contract's table says, and a page that explains it."""

import pytest
from flask.testing import FlaskClient

from gateway.errors import ERRORS, ErrorCode, Failure, GatewayError

# The contract's table: code, HTTP status, whether to repeat the request.
CONTRACT = {
    "invalid_json": (400, False),
    "invalid_request": (400, False),
    "unauthorized": (401, False),
    "forbidden": (403, False),
    "not_found": (404, False),
    "method_not_allowed": (405, False),
    "payload_too_large": (413, False),
    "unsupported_media_type": (415, False),
    "validation_failed": (422, False),
    "invalid_phone_number": (422, False),  # an item of errors, and of a webhook's opt-out
    "idempotency_key_reused": (422, False),
    "idempotency_key_in_use": (409, True),
    "not_retryable": (409, False),
    "customer_not_found": (404, False),
    "crmtext_rejected": (422, False),
    "crmtext_auth_failed": (502, False),
    "crmtext_rate_limited": (503, True),
    "crmtext_unavailable": (502, True),
    "crmtext_unreachable": (502, True),
    "crmtext_timeout": (504, True),
    "crmtext_invalid_response": (502, True),
    "gateway_busy": (503, True),
    "ledger_unavailable": (503, True),
    "internal_error": (500, True),
}
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def test_every_code_has_a_row_and_every_row_a_code() -> None:
    assert set(ERRORS) == set(ErrorCode)


def test_the_table_is_the_contracts() -> None:
    assert {code.value: (kind.status, kind.retryable) for code, kind in ERRORS.items()} == CONTRACT


@pytest.mark.parametrize("code", ErrorCode)
def test_a_row_has_words_for_people(code: ErrorCode) -> None:
    kind = ERRORS[code]

    assert kind.title
    assert not kind.title.endswith(".")
    assert kind.explanation.endswith(".")
    assert kind.retry_after is None or kind.retry_after >= 1


@pytest.mark.parametrize("code", ErrorCode)
def test_a_problems_type_serves_the_codes_text(
    refused_client: FlaskClient, code: ErrorCode
) -> None:
    answer = refused_client.get(f"/problems/{code}")

    kind = ERRORS[code]
    again = f"yes, after {kind.retry_after} s or as Retry-After says" if kind.retryable else "no"
    assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
    assert answer.headers["Vary"] == "Accept"
    assert answer.text == (
        f"{code}\n\n{kind.title}.\n\n{kind.explanation}\n\n"
        f"HTTP status: {kind.status}\nRetry the same request: {again}\n"
    )


@pytest.mark.parametrize("code", ErrorCode)
def test_a_problems_type_serves_a_page_to_a_browser(
    refused_client: FlaskClient, code: ErrorCode
) -> None:
    answer = refused_client.get(f"/problems/{code}", headers={"Accept": CHROME})

    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    assert f"<h1>{code}</h1>" in answer.text
    assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize("address", ["/problems/nothing", "/problems/INVALID_JSON", "/problems/"])
def test_an_unknown_code_has_no_page(refused_client: FlaskClient, address: str) -> None:
    answer = refused_client.get(address)

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (404, "not_found")


def test_an_error_does_not_need_more_than_a_code_and_a_sentence() -> None:
    error = GatewayError(ErrorCode.NOT_FOUND, "There is nothing.")

    assert error.failure == Failure(ErrorCode.NOT_FOUND, "There is nothing.")
    assert error.opt_out_id is None
