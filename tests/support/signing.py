"""How each sender signs, written from its documentation and not from the gateway's recipes.

``SENDERS`` has one for every recipe; a test refuses a recipe without. Each knows how to sign, and
one message that withdraws the consent of ``NUMBER``.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlencode

NUMBER = "9995551234"
NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
URL = "https://gateway.example.com/v1/webhooks/source?from=elsewhere"
SECRET = "whsec_c2lnbmVkIHdpdGggdGhlc2UgYnl0ZXM="


@dataclass(frozen=True)
class Message:
    """What is to be signed: a body, sent to an address at a time under an id."""

    body: bytes
    sent_at: datetime = NOW
    url: str = URL
    id: str = "delivery-1"


Sign = Callable[[str, Message], Mapping[str, str]]


@dataclass(frozen=True)
class Sender:
    """``headers`` signs; ``event`` is the message's body; ``times`` says if the time is signed."""

    headers: Sign
    event: object
    times: bool = False
    form: bool = False
    signs_body: bool = True

    def message(self, event: object = None, *, sent_at: datetime = NOW, url: str = URL) -> Message:
        """The sender's opt-out, or another event, as its bytes."""
        event = self.event if event is None else event
        if self.form:
            assert isinstance(event, dict)
            return Message(urlencode(event).encode(), sent_at, url)
        return Message(json.dumps(event).encode(), sent_at, url)


def mac(key: str | bytes, text: bytes, algorithm: str = "sha256") -> bytes:
    key = key.encode() if isinstance(key, str) else key
    return hmac.new(key, text, getattr(hashlib, algorithm)).digest()


def base64_text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def unix(moment: datetime) -> str:
    return str(int(moment.timestamp()))


def standard_webhooks(secret: str, message: Message) -> Mapping[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{message.id}.{unix(message.sent_at)}.".encode() + message.body
    return {
        "webhook-id": message.id,
        "webhook-timestamp": unix(message.sent_at),
        "webhook-signature": "v1a,bm90IG91cnM= v1," + base64_text(mac(key, text)),
    }


def shopify(secret: str, message: Message) -> Mapping[str, str]:
    signature = base64_text(mac(secret, message.body))
    return {"X-Shopify-Hmac-Sha256": signature, "X-Shopify-Webhook-Id": message.id}


def hubspot(secret: str, message: Message) -> Mapping[str, str]:
    time = unix(message.sent_at) + "000"
    text = b"POST" + message.url.encode() + message.body + time.encode()
    signature = base64_text(mac(secret, text))
    return {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": time}


def klaviyo(secret: str, message: Message) -> Mapping[str, str]:
    time = format_datetime(message.sent_at, usegmt=True)
    signature = mac(secret, message.body + time.encode()).hex()
    return {"Klaviyo-Signature": signature, "Klaviyo-Timestamp": time}


def segment(secret: str, message: Message) -> Mapping[str, str]:
    return {"X-Signature": mac(secret, message.body, "sha1").hex()}


def customerio(secret: str, message: Message) -> Mapping[str, str]:
    time = unix(message.sent_at)
    signature = mac(secret, b"v0:" + time.encode() + b":" + message.body).hex()
    return {"X-CIO-Signature": signature, "X-CIO-Timestamp": time}


def attentive(secret: str, message: Message) -> Mapping[str, str]:
    return {"x-attentive-hmac-sha256": mac(secret, message.body).hex()}


def intercom(secret: str, message: Message) -> Mapping[str, str]:
    return {"X-Hub-Signature": "sha1=" + mac(secret, message.body, "sha1").hex()}


def zendesk(secret: str, message: Message) -> Mapping[str, str]:
    time = message.sent_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "X-Zendesk-Webhook-Signature": base64_text(mac(secret, time.encode() + message.body)),
        "X-Zendesk-Webhook-Signature-Timestamp": time,
        "X-Zendesk-Webhook-Invocation-Id": message.id,
    }


def marketing_cloud(secret: str, message: Message) -> Mapping[str, str]:
    return {"x-sfmc-ens-signature": base64_text(mac(secret, message.body))}


def braze(secret: str, _: Message) -> Mapping[str, str]:
    return {"X-Hook-Token": secret}


def bearer(secret: str, _: Message) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def twilio(secret: str, message: Message) -> Mapping[str, str]:
    fields = sorted(parse_qsl(message.body.decode(), keep_blank_values=True))
    text = message.url + "".join(name + value for name, value in fields)
    return {"X-Twilio-Signature": base64_text(mac(secret, text.encode(), "sha1"))}


def _klaviyo_event() -> object:
    profile = {"type": "profile", "attributes": {"phone_number": "+19995551234"}}
    event = {"type": "event", "attributes": {"datetime": "2026-11-22T19:59:00+00:00"}}
    return {
        "external_id": "event-1",
        "topic": "event:klaviyo.unsubscribed_from_sms_marketing",
        "payload": {"data": event, "included": [{"type": "metric"}, profile]},
    }


SENDERS: Mapping[str, Sender] = {
    "standard-webhooks": Sender(
        standard_webhooks,
        {
            "type": "contact.unsubscribed",
            "timestamp": "2026-11-22T19:59:00Z",
            "data": {"channel": "sms", "phone_number": "+19995551234"},
        },
        times=True,
    ),
    "shopify": Sender(
        shopify, {"phone": "+19995551234", "sms_marketing_consent": {"state": "redacted"}}
    ),
    "hubspot": Sender(
        hubspot,
        [
            {
                "eventId": 1,
                "occurredAt": 1795000000000,
                "subscriptionType": "contact.propertyChange",
                "propertyName": "sms_opted_out_number",
                "propertyValue": "+1 999-555-1234",
            }
        ],
        times=True,
    ),
    "klaviyo": Sender(klaviyo, {"data": [_klaviyo_event()]}, times=True),
    "segment": Sender(
        segment,
        {
            "type": "track",
            "event": "SMS Unsubscribed",
            "messageId": "message-1",
            "properties": {"phone": "(999) 555-1234"},
        },
    ),
    "customerio": Sender(
        customerio,
        {"event": "sms_unsubscribed", "phone": "+19995551234", "event_id": "event-1"},
        times=True,
    ),
    "attentive": Sender(
        attentive, {"type": "sms.unsubscribed", "subscriber": {"phone": "+19995551234"}}
    ),
    "intercom": Sender(
        intercom,
        {
            "type": "notification_event",
            "id": "notif_1",
            "topic": "contact.unsubscribed",
            "data": {"item": {"unsubscribed_from_sms": True, "phone": "+19995551234"}},
        },
    ),
    "zendesk": Sender(
        zendesk, {"event": "sms_opt_out", "requester_phone": "+19995551234"}, times=True
    ),
    "marketing-cloud": Sender(
        marketing_cloud,
        [
            {
                "eventCategoryType": "EngagementEvents.SmsOptOut",
                "compositeId": "1.2.3",
                "info": {"mobileNumber": "19995551234"},
            }
        ],
    ),
    "braze": Sender(
        braze,
        {
            "events": [
                {
                    "event_type": "users.messages.sms.InboundReceive",
                    "id": "event-1",
                    "time": 1795000000,
                    "properties": {"action": "Unsubscribed", "user_phone_number": "+19995551234"},
                }
            ]
        },
        signs_body=False,
    ),
    "iterable": Sender(
        bearer,
        {
            "eventName": "smsReceived",
            "dataFields": {"fromPhoneNumber": "+19995551234", "smsMessage": " Opt Out\n"},
        },
        signs_body=False,
    ),
    "twilio": Sender(
        twilio,
        {"From": "+19995551234", "Body": " stop ", "ToCity": "", "MessageSid": "SM1"},
        form=True,
    ),
    "zapier": Sender(bearer, {"action": "opt_out", "phone": "+19995551234"}, signs_body=False),
    "make": Sender(
        bearer, {"action": "opt_out", "contacts": [{"phone": 9995551234}]}, signs_body=False
    ),
}
