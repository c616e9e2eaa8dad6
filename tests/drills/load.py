"""Callers who go on whatever happens, and the reckoning of what became of their opt-outs."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count, cycle, pairwise
from urllib.parse import urlsplit

from gateway.consent import Status
from gateway.errors import LedgerUnavailable
from gateway.ledger.ledger import Ledger
from tests.support.factories import BEARER
from tests.support.fake_crmtext import FakeCrmText
from tests.support.ledgers import wait_until

_PAUSE_SECONDS = 0.02
_PATIENCE_SECONDS = 30.0
_NUMBERS = count(9990000001)


class Load:
    """Callers of the gateway at ``url``, which may change while they call.

    ``accepted`` has the id of each opt-out that a caller saw answered with 200 or 202, by number;
    ``answers`` counts the statuses, 0 for none.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.accepted: dict[str, str] = {}
        self.answers: Counter[int] = Counter()
        self.problems: Counter[str] = Counter()
        self.gave_up = 0
        self._ends = threading.Event()

    @contextmanager
    def callers(self, *, leaving: int = 0, waiting: int = 0, mixed: int = 0) -> Iterator[None]:
        """While the block runs, some callers leave and some wait for the outcome.

        Those who leave (respond-async) and those who ask in one way after the other (mixed) never
        repeat. Those who wait repeat with the same key until they hear of an outcome, also after
        the block.
        """
        threads = [threading.Thread(target=self._hand_over) for _ in range(leaving)]
        threads += [threading.Thread(target=self._insist) for _ in range(waiting)]
        threads += [threading.Thread(target=self._ask_in_every_way) for _ in range(mixed)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ends.set()
            for thread in threads:
                thread.join()

    def _hand_over(self) -> None:
        while not self._ends.is_set():
            self._ask(str(next(_NUMBERS)), {"Prefer": "respond-async"})
            time.sleep(_PAUSE_SECONDS)

    def _ask_in_every_way(self) -> None:
        for prefer in cycle(["return=minimal", "wait=1", "respond-async", "respond-async, wait=1"]):
            if self._ends.is_set():
                return
            self._ask(str(next(_NUMBERS)), {"Prefer": prefer})
            time.sleep(_PAUSE_SECONDS)

    def _insist(self) -> None:
        while not self._ends.is_set():
            number = str(next(_NUMBERS))
            ends_at = time.monotonic() + _PATIENCE_SECONDS
            while not self._ask(number, {"Idempotency-Key": f"key-{number}"}):
                if time.monotonic() > ends_at:
                    self.gave_up += 1
                    break
                time.sleep(0.2)
            time.sleep(_PAUSE_SECONDS)

    def _ask(self, number: str, headers: dict[str, str]) -> bool:
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
        body = json.dumps({"phone_number": number})
        try:
            connection.request(
                "POST",
                "/v1/opt-outs",
                body,
                BEARER | headers | {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self.answers[0] += 1
            return False
        finally:
            connection.close()
        self.answers[response.status] += 1
        if response.status in (200, 202):
            self.accepted[number] = answer["id"]
            return True
        self.problems[answer["code"]] += 1
        return False


@dataclass(frozen=True)
class Reckoning:
    """What became of the opt-outs that callers saw accepted."""

    accepted: int
    lost: int
    sent_twice: int
    longest_take_over_seconds: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted}, lost {self.lost}, sent twice {self.sent_twice}, "
            f"longest take-over {self.longest_take_over_seconds:.1f} s, "
            f"all delivered {self.seconds:.1f} s after the load"
        )


def reckon(
    ledger: Ledger, crmtexts: list[FakeCrmText], accepted: dict[str, str], *, within: float
) -> Reckoning:
    """Waits until nothing is pending any more, and counts."""
    seconds = wait_until(lambda: _has_none_pending(ledger), within, "nothing is pending")
    received = Counter(call.phone_number for crmtext in crmtexts for call in crmtext.calls)
    lost = [
        number
        for number, opt_out_id in accepted.items()
        if received[number] == 0 or not _is_opted_out(ledger, opt_out_id)
    ]
    take_overs = [_take_over_seconds(ledger, one) for one in accepted.values()]
    return Reckoning(
        accepted=len(accepted),
        lost=len(lost),
        sent_twice=sum(times > 1 for times in received.values()),
        longest_take_over_seconds=max(take_overs, default=0.0),
        seconds=seconds,
    )


def _has_none_pending(ledger: Ledger) -> bool:
    try:
        return ledger.summary().pending == 0
    except LedgerUnavailable:
        return False


def _is_opted_out(ledger: Ledger, opt_out_id: str) -> bool:
    opt_out = ledger.find(opt_out_id)
    return opt_out is not None and opt_out.status == Status.OPTED_OUT


def _take_over_seconds(ledger: Ledger, opt_out_id: str) -> float:
    """How long after a call that nobody ended the next one began; 0 if all were ended."""
    attempts = ledger.attempts_of(opt_out_id)
    pairs = pairwise(attempts)
    return max(
        (_between(a.started_at, b.started_at) for a, b in pairs if not a.ended_at), default=0
    )


def _between(earlier: datetime, later: datetime) -> float:
    return (later - earlier).total_seconds()


Report = Callable[[object], None]
