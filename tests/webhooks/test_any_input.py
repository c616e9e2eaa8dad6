"""Whatever is configured or sent: it is read or refused."""

import json
from collections.abc import Mapping
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError, ErrorCode
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.source import Reading, WebhookSource
from tests.support.webhook_sources import make_source, read_or_refuse, read_sources, recipe_source

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
GREEDY = make_source(
    opt_out="@", phone_numbers="*[] || @", events="* || @", delivery_id="@", requested_at="@"
)
RECIPES = [recipe_source(recipe) for recipe in sorted(read_recipes())]
SOURCES = st.sampled_from([GREEDY, make_source(opt_out="`true`"), *RECIPES])


def assert_sound(reading: Reading | ErrorCode) -> None:
    if not isinstance(reading, Reading):
        assert reading in (ErrorCode.INVALID_JSON, ErrorCode.INVALID_REQUEST)
        return
    assert reading.ignored >= 0
    keys = [withdrawal.repeat_key for withdrawal in reading.withdrawals]
    assert len(set(keys)) == len(keys)
    for withdrawal in reading.withdrawals:
        assert (withdrawal.phone_number.digits is None) == (
            withdrawal.phone_number.flaw is not None
        )
        assert len(withdrawal.phone_number.received.encode()) <= 4 * 255
        assert "\0" not in withdrawal.phone_number.received


@given(SOURCES, JSON)
def test_any_json_is_read(source: WebhookSource, value: object) -> None:
    assert_sound(read_or_refuse(source, json.dumps(value).encode(), {}))


@given(SOURCES, st.binary(), st.dictionaries(st.text(), st.text()))
def test_any_bytes_are_read_or_refused(
    source: WebhookSource, body: bytes, headers: Mapping[str, str]
) -> None:
    assert_sound(read_or_refuse(source, body, headers))


@given(st.text() | st.text("[]{}='\"abc\n#.,1"))
def test_any_text_is_configuration_or_refused(text: str) -> None:
    with suppress(ConfigurationError):
        read_sources(text)
