"""When an opt-out that could not be delivered is tried again."""

_FIRST_DELAY_SECONDS = 2.0
_LONGEST_DELAY_SECONDS = 3600.0
_ENOUGH_ATTEMPTS = 20


def delay_seconds(failures: int, retry_after: int | None, stretch: float) -> float:
    """Seconds until the next attempt after the ``failures``-th failed one in a row, from 1.

    About 2, 4, 8 … up to an hour; ``stretch`` (1 to 1.25) keeps many from coming back at once.
    CRM Text's own Retry-After counts where it is later.
    """
    doubled = _FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 20) * stretch
    return max(min(doubled, _LONGEST_DELAY_SECONDS), retry_after or 0)


def enough_attempts(delivery_days: float) -> int:
    """How many attempts have to fail before an opt-out may be given up when its days are over.

    20, or as many as the delays allow within the days: a clock that jumps ahead must not end an
    opt-out that was hardly tried.
    """
    attempts, seconds = 1, delay_seconds(1, None, 1)
    while attempts < _ENOUGH_ATTEMPTS and seconds <= delivery_days * 24 * 3600:
        attempts += 1
        seconds += delay_seconds(attempts, None, 1)
    return attempts
