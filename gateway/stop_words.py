"""The words that end text messages, wherever they come from."""

import re

STOP_WORDS = frozenset(
    (
        *("stop", "stopall", "quit", "end", "revoke", "cancel", "unsubscribe"),
        *("optout", "opt out", "opt-out"),
    )
)
_BEGINNING = re.compile(r"[\W_]*")


def is_stop_word(text: str) -> bool:
    """Whether the text is one, in any case and with any punctuation and white space around it.

    A text that merely speaks of stopping is not.
    """
    bare = _without_beginning(_without_beginning(text)[::-1])[::-1]
    return " ".join(bare.lower().split()) in STOP_WORDS


def _without_beginning(text: str) -> str:
    # A pattern for the end would look again from every place in a text of punctuation.
    return _BEGINNING.sub("", text, count=1)
