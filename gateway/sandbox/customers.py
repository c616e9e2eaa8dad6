"""The customers that the sandbox holds, what each method does with them, and the test numbers."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
from threading import Lock
from zlib import crc32
from zoneinfo import ZoneInfo

from gateway.sandbox.calls import HTML, UNAUTHORIZED, Call, Reply, xml


def _says(status: str, message: str, http_status: int = 200) -> Reply:
    return Reply(http_status, xml(status, message))


@dataclass(frozen=True)
class MagicNumber:
    """A test number: what an opt-out of it is answered, the first ``times`` or always.

    If it ``acts``, the customer is opted out, and a reply without a body gets the usual one.
    ``status`` is the customer's, as long as nobody changed it.
    """

    explanation: str
    reply: Reply
    acts: bool = False
    times: float = inf
    status: str = "3"


_DOCUMENTED = b"""<response op= "optoutcustomer" status= "200" message= "ok">
<timestamp>2014-08-11 14:23:36</timestamp>
<custName>John Queue</custName>
</response>"""
_TOO_MANY = Reply(429, xml("429", "Too many requests"), {"Retry-After": "3"})
_OPTED_IN = Reply(body=xml(optinStatus="3", custMobile="9995550203"))
_SOMEBODY_ELSE = Reply(body=xml(optinStatus="5", custMobile="9995551234"))
_HTML_503 = Reply(503, b"<html><h1>Service Unavailable</h1></html>", HTML)
_REPEATS_NUMBER = _says("422", "9995550422 cannot receive messages")

# 02xx to 05xx are answers with such a status, 06xx are slow, 07xx are broken.
MAGIC_NUMBERS: Mapping[str, MagicNumber] = {
    "9995550200": MagicNumber(
        "opted out; XML without a customer element", Reply(body=_DOCUMENTED), acts=True
    ),
    "9995550201": MagicNumber("opted out; the body sent in chunks", Reply(chunked=True), acts=True),
    "9995550203": MagicNumber("200, but the customer is opted in", _OPTED_IN),
    "9995550205": MagicNumber("200, but for another number", _SOMEBODY_ELSE),
    "9995550302": MagicNumber("redirected", Reply(302, headers={"Location": "/elsewhere"})),
    "9995550400": MagicNumber(
        "already opted out, the first time too", Reply(), acts=True, status="5"
    ),
    "9995550401": MagicNumber("credentials refused", UNAUTHORIZED),
    "9995550404": MagicNumber("no such customer", _says("404", "Customer not found")),
    "9995550422": MagicNumber("refused, with the number in the message", _REPEATS_NUMBER),
    "9995550429": MagicNumber("too many calls; try again after 3 s", _TOO_MANY),
    "9995550500": MagicNumber("server error under HTTP 200", _says("500", "Internal error")),
    "9995550502": MagicNumber(
        "server error the first two times, then opted out", _says("500", "Try again", 500), times=2
    ),
    "9995550503": MagicNumber("a proxy's HTML page", _HTML_503),
    "9995550602": MagicNumber("opted out, after 2 s", Reply(delay=2.0), acts=True),
    "9995550610": MagicNumber(
        "opted out; the body sent one byte at a time", Reply(drip=0.2), acts=True
    ),
    "9995550611": MagicNumber(
        "opted out; the headers sent one byte at a time", Reply(drip_headers=0.2), acts=True
    ),
    "9995550630": MagicNumber("no answer; connection closed after 30 s", Reply(delay=30.0, cut=0)),
    "9995550700": MagicNumber("HTTP 200, but not XML", Reply(body=b"OK, done.")),
    "9995550701": MagicNumber("opted out; the answer cut short", Reply(cut=-40), acts=True),
    "9995550702": MagicNumber("connection reset", Reply(reset=True)),
}


@dataclass(frozen=True)
class _Customer:
    name: str = "John Queue"
    status: str = "3"
    changed: str = "2014-08-11 14:23:36"


class Customers:
    """All customers of all stores. A number that nobody asked for before is opted in."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[tuple[str, str], _Customer] = {}
        self._troubles: Counter[tuple[str, str]] = Counter()

    def answer(self, call: Call) -> Reply:
        """What CRM Text answers; the customer is changed when this returns."""
        if call.method not in METHODS:
            return Reply(body=xml("400", "Unknown method", call.method))
        if not re.fullmatch("[0-9]{10}", call.phone_number):
            return Reply(body=xml("400", "Invalid phone_number", call.method))
        with self._lock:
            return METHODS[call.method](self, call)

    def changed(self) -> Sequence[Mapping[str, str]]:
        """Each customer that an opt-out or an opt-in changed, as JSON has it."""
        with self._lock:
            return [
                {
                    "store": store,
                    "phone_number": phone_number,
                    "status": "opted_out" if customer.status == "5" else "opted_in",
                    "name": customer.name,
                    "changed": customer.changed,
                }
                for (store, phone_number), customer in sorted(self._held.items())
            ]

    def forget(self) -> None:
        """Make every number what it was before anybody asked."""
        with self._lock:
            self._held.clear()
            self._troubles.clear()

    def _customer(self, call: Call) -> _Customer:
        magic = MAGIC_NUMBERS.get(call.phone_number)
        unchanged = _Customer(status=magic.status if magic else "3")
        return self._held.get((call.store, call.phone_number), unchanged)

    def _opt_out(self, call: Call) -> Reply:
        key = (call.store, call.phone_number)
        magic = MAGIC_NUMBERS.get(call.phone_number)
        if magic is None or self._troubles[key] >= magic.times:
            return self._usual_opt_out(call)
        self._troubles[key] += 1
        body = self._usual_opt_out(call).body if magic.acts else b""
        return replace(magic.reply, body=magic.reply.body or body)

    def _usual_opt_out(self, call: Call) -> Reply:
        key = (call.store, call.phone_number)
        customer = self._customer(call)
        if customer.status == "5":
            return _says("400", "Customer is Opted-Out")
        self._held[key] = replace(customer, status="5", changed=_now())
        return self._look_up(call)

    def _opt_in(self, call: Call) -> Reply:
        name = f"{call.form.get('firstname', '')} {call.form.get('lastname', '')}".strip()
        self._held[(call.store, call.phone_number)] = _Customer(name, "3", _now())
        self._troubles.pop((call.store, call.phone_number), None)
        return self._look_up(call)

    def _look_up(self, call: Call) -> Reply:
        customer = self._customer(call)
        fields = {
            "custId": str(10**12 + crc32(call.phone_number.encode())),
            "subacct": str(100 + crc32(call.store.encode()) % 900),
            "timestamp": customer.changed,
            "optinStatus": customer.status,
            "custName": customer.name,
            "custMobile": call.phone_number,
        }
        if call.method == "getcustomerinfo":
            fields["totalMsg"] = "0"
        return Reply(body=xml(op=call.method, **fields))


METHODS: Mapping[str, Callable[[Customers, Call], Reply]] = {
    "optoutcustomer": Customers._opt_out,
    "optincustomer": Customers._opt_in,
    "getcustomerinfo": Customers._look_up,
}


def _now() -> str:
    return datetime.now(ZoneInfo("America/Los_Angeles")).strftime("%Y-%m-%d %H:%M:%S")
