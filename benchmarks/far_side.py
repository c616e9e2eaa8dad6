"""A stand-in for CRM Text that costs next to nothing: ``one asyncio process, HTTP and HTTPS.

It opts everybody out. ``GET /state`` tells what it has seen and begins to count anew how many
calls wait at once; ``GET /delay/SECONDS`` makes it slow, for the calls that come from then on.
"""

import asyncio
import json
import ssl
import sys
from dataclasses import asdict, dataclass
from typing import cast

_ANSWER = (
    b'<?xml version="1.0" encoding="UTF-8"?><response op="optoutcustomer" status="200">'
    b"<customer><custId>1234567891011</custId><custName>John Queue</custName>"
    b"<timestamp>2014-08-11 14:23:36</timestamp><optinStatus>5</optinStatus>"
    b"<custMobile>%s</custMobile><subacct>456</subacct></customer></response>"
)


@dataclass
class State:
    """What it has seen, and how slow it is."""

    connections: int = 0
    calls: int = 0
    waiting: int = 0
    most_waiting: int = 0
    delay: float = 0.0


class _Connection(asyncio.Protocol):
    def __init__(self, state: State) -> None:
        self._state = state
        self._received = b""

        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._state.connections += 1

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer:  # its caller has given up waiting
            self._timer.cancel()
            self._state.waiting -= 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if head.startswith(b"GET"):
            self._received = b""
            self._control(head.split(b" ")[1].decode())
            return
        _, _, length = head.lower().partition(b"content-length:")
        if len(body) >= int(length.split(b"\r\n", 1)[0]):
            self._received = b""
            self._call(body)

    def _call(self, form: bytes) -> None:
        state = self._state
        state.calls += 1
        state.waiting += 1
        state.most_waiting = max(state.most_waiting, state.waiting)
        number = form.partition(b"phone_number=")[2][:10]
        if state.delay:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(state.delay, self._answer, number)
        else:
            self._answer(number)

    def _answer(self, number: bytes) -> None:
        self._timer = None
        self._state.waiting -= 1
        self._write(b"text/xml", _ANSWER % number)

    def _control(self, path: str) -> None:
        if path.startswith("/delay/"):
            self._state.delay = float(path.removeprefix("/delay/"))
        self._state.connections -= 1  # this one does not count
        self._write(b"application/json", json.dumps(asdict(self._state)).encode())
        self._state.most_waiting = self._state.waiting
        self._transport.close()

    def _write(self, media_type: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (media_type, len(body)) + body)


async def _serve(http_port: str, https_port: str, certificate: str, key: str) -> None:
    state = State()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    for port, context in ((http_port, None), (https_port, tls)):
        await loop.create_server(
            lambda: _Connection(state), "127.0.0.1", int(port), ssl=context, backlog=1024
        )
    await loop.create_future()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
