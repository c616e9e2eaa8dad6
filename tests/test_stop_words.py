"""One list of stop words for the whole gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stop_words import STOP_WORDS, is_stop_word


def test_the_list_is_that_of_the_contract() -> None:
    assert {
        *["stop", "stopall", "quit", "end", "revoke", "cancel", "unsubscribe"],
        *["optout", "opt out", "opt-out"],
    } == STOP_WORDS


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        " stop\r\n",
        "Stop!",
        "...StopAll...",
        "“stop”",
        "*stop*",
        "_quit_",
        "(end)",
        "Revoke, ",
        "cancel\u00a0",
        "UNSUBSCRIBE.",
        "OptOut",
        "Opt Out",
        "opt  out",
        "opt\u00a0out",
        "OPT-OUT",
        "stop 🛑",
    ],
)
def test_a_stop_word_is_known_in_any_case_and_with_anything_around_it(text: str) -> None:
    assert is_stop_word(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "...",
        "please stop",
        "stop it",
        "stop stop",
        "don't stop",
        "stopp",
        "nonstop",
        "stop1",
        "s top",
        "opt--out",
        "opt out now",
        "opt",
        "ѕtop",  # noqa: RUF001, the first letter is Cyrillic
    ],
)
def test_a_text_about_stopping_is_not_a_stop_word(text: str) -> None:
    assert not is_stop_word(text)


def test_a_long_text_is_judged_quickly() -> None:
    assert not is_stop_word("!" * 1_000_000 + "a" + "!" * 1_000_000)
    assert is_stop_word("!" * 1_000_000 + "stop" + "!" * 1_000_000)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert is_stop_word(text) in (True, False)
