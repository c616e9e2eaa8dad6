"""What Twilio signs: the only scheme that a template cannot describe.

https://www.twilio.com/docs/usage/webhooks/webhooks-security
"""

from gateway.bodies import read_form

_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def signed_texts(url: str, body: bytes) -> list[bytes]:
    """The texts of which an authentic request carries the HMAC-SHA1 of one.

    They are the full URL, then the name and value of each form field, by name. Twilio signs with
    or without the default port; of a name that came twice its libraries sign each value once and
    in order, its documentation speaks of every field. Raises ValueError if the body is no form.
    """
    fields = read_form(body)
    orders = (sorted(set(fields)), sorted(fields, key=lambda field: field[0]))
    tails = {"".join(name + value for name, value in order).encode() for order in orders}
    urls = [each.encode("latin-1") for each in _with_and_without_port(url)]
    return [start + tail for start in urls for tail in tails]


def _with_and_without_port(url: str) -> list[str]:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    port = _DEFAULT_PORTS.get(scheme.lower(), "")
    host = host.removesuffix(port)
    if not port or ":" in host.rpartition("]")[2]:  # a port of its own, not a colon of IPv6
        return [url]
    return [f"{scheme}://{host}{slash}{path}", f"{scheme}://{host}{port}{slash}{path}"]
