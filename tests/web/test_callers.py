"""Who calls: API keys, and the stores that each may act on."""

import pytest
from flask.testing import FlaskClient

from gateway.app import create_app
from tests.support.api import ADDRESS, ok, post, refusal
from tests.support.factories import BEARER, BURGER_BEARER, NUMBER, make_settings, sha256
from tests.support.fake_crmtext import FakeCrmText

MISSING = "The API key is missing. Send 'Authorization: Bearer KEY'."


@pytest.mark.parametrize(
    ("headers", "named", "store"),
    [
        (BEARER, None, "PIZZA"),
        (BEARER, "PIZZA", "PIZZA"),
        (BEARER, "bUrGeR", "BURGER"),
        (BURGER_BEARER, None, "BURGER"),
        (BURGER_BEARER, "burger", "BURGER"),
    ],
)
def test_the_store_is_the_one_named_or_else_the_first_of_the_key(
    client: FlaskClient,
    crmtext: FakeCrmText,
    headers: dict[str, str],
    named: str | None,
    store: str,
) -> None:
    body = ok(post(client, {"phone_number": NUMBER, "store": named}, headers))

    assert body["store"] == store
    assert [call.store for call in crmtext.calls] == [store]


def test_a_key_bound_to_other_stores_is_forbidden(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    answer = post(client, {"phone_number": NUMBER, "store": "pizza"}, BURGER_BEARER)

    detail = "The API key may not act on store PIZZA."
    assert refusal(answer) == {"code": "forbidden", "detail": detail}
    assert crmtext.calls == []


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        (None, MISSING),
        ("", MISSING),
        ("key-of-billing", MISSING),
        ("Basic a2V5", MISSING),
        ("Bearer", MISSING),
        ("Bearer ", MISSING),
        ("Bearer another", "The API key is unknown."),
        ("Bearer key-of-billin", "The API key is unknown."),
        ("Bearer key-of-billing2", "The API key is unknown."),
        ("Bearer KEY-OF-BILLING", "The API key is unknown."),
        ("Bearer \u00fc", "The API key is unknown."),
        (f"Bearer {sha256('key-of-billing')}", "The API key is unknown."),
    ],
)
def test_without_a_known_key_every_request_is_unauthorized(
    refused_client: FlaskClient,
    authorization: str | None,
    detail: str,
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    for answer in (
        post(refused_client, {"phone_number": NUMBER}, headers),
        refused_client.get(f"{ADDRESS}/0aa50109-1da7-45b8-ba01-486ce4abb337", headers=headers),
        refused_client.get(
            f"{ADDRESS}/0aa50109-1da7-45b8-ba01-486ce4abb337/attempts", headers=headers
        ),
        refused_client.post(
            f"{ADDRESS}/0aa50109-1da7-45b8-ba01-486ce4abb337/retry", headers=headers
        ),
        post(refused_client, {}, headers, f"{ADDRESS}/search"),
    ):
        assert refusal(answer) == {"code": "unauthorized", "detail": detail}


def test_the_bearer_scheme_may_be_written_in_any_case(client: FlaskClient) -> None:
    ok(post(client, {"phone_number": NUMBER}, {"Authorization": "bearer key-of-billing"}))


def test_both_keys_of_a_rotation_are_the_same_caller(
    crmtext: FakeCrmText, database_url: str
) -> None:
    settings = make_settings(
        CRMTEXT_URL=crmtext.url,
        DATABASE_URL=database_url,
        GATEWAY_API_KEYS=f"billing:{sha256('old')} billing:{sha256('new')}",
    )
    client = create_app(settings).test_client()

    key = {"Idempotency-Key": "1"}
    old = post(client, {"phone_number": NUMBER}, {"Authorization": "Bearer old", **key})
    new = post(client, {"phone_number": NUMBER}, {"Authorization": "Bearer new", **key})

    assert old.get_json() == new.get_json()
    assert new.headers["Idempotency-Replayed"] == "true"
