"""Calls to CRM Text over real sockets, and servers that answer them byte by byte."""

import base64
import time

from gateway.accounts import Store
from gateway.crmtext.client import CrmText
from tests.support.factories import BURGER, NUMBER, PIZZA
from tests.support.scripted_server import Peer, Script

STORES = (Store("PIZZA", PIZZA), Store("BURGER", BURGER))
TIMEOUT = 0.4
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
UNREACHABLE = "crmtext_unreachable"
INVALID = "crmtext_invalid_response"


def connect(url: str, seconds: float = 5.0) -> CrmText:
    return CrmText(url, seconds, STORES)


def basic(auth_string: str) -> str:
    return "Basic " + base64.b64encode(auth_string.encode()).decode()


def timed(url: str, seconds: float = TIMEOUT) -> tuple[str, float]:
    """The name of one call's outcome, and how long it took."""
    call = connect(url, seconds)
    began = time.monotonic()
    outcome = call.opt_out(NUMBER, "PIZZA")
    return outcome.name, time.monotonic() - began


def sends(*pieces: bytes, reset: bool = False) -> Script:
    """Hears a request, sends the pieces and closes the connection, or resets it."""

    def script(peer: Peer) -> None:
        peer.hears()
        peer.says(*pieces)
        if reset:
            time.sleep(0.05)  # so that what was sent arrives before the reset
            peer.resets()

    return script
