"""Every code has its row, as in the contract's table, and a text that explains it."""

import pytest

from gateway.errors import ERRORS, ErrorCode, Failure, GatewayError
from gateway.web.problems import explanations

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


def test_every_code_has_a_row_and_every_row_a_code() -> None:
    assert set(ERRORS) == set(ErrorCode)


def test_the_table_is_the_contracts() -> None:
    assert {code.value: (kind.status, kind.retryable) for code, kind in ERRORS.items()} == CONTRACT


def test_every_code_is_explained_and_every_explanation_has_a_code() -> None:
    assert list(explanations()) == list(ErrorCode)
    assert [text for text in explanations().values() if not text.endswith(".")] == []


@pytest.mark.parametrize("code", ErrorCode)
def test_a_row_has_words_for_people(code: ErrorCode) -> None:
    kind = ERRORS[code]

    assert kind.title
    assert not kind.title.endswith(".")
    assert kind.retry_after is None or kind.retry_after >= 1


def test_an_error_does_not_need_more_than_a_code_and_a_sentence() -> None:
    error = GatewayError(ErrorCode.NOT_FOUND, "There is nothing.")

    assert error.failure == Failure(ErrorCode.NOT_FOUND, "There is nothing.")
    assert error.opt_out_id is None
