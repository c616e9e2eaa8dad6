"""Webhook sources from TOML, with every fault named."""

import re

import pytest

from gateway.bodies import BodyFormat
from gateway.errors import ConfigurationError
from gateway.timestamps import TimestampFormat
from gateway.webhooks.config import read_webhook_sources
from gateway.webhooks.recipes import read_recipes, recipes_in
from gateway.webhooks.signatures import Encoding, Hash, Refusal, Scheme, SignedRequest
from gateway.webhooks.source import Answer
from tests.support.signing import NOW, mac
from tests.support.webhook_sources import BY_HAND, ENVIRONMENT, read_sources, recipe_source


def faults_of(text: str, *, public_url: str | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as raised:
        read_sources(text, public_url=public_url)
    for fault in raised.value.faults:
        assert "\n" not in fault
        assert "s3cret" not in fault
    return raised.value.faults


def test_a_source_by_hand_has_the_documented_defaults() -> None:
    source = read_sources(BY_HAND)["helpdesk"]
    assert source.name == "helpdesk"
    assert source.store == "PIZZA"
    assert source.answer is Answer.JSON
    assert source.body is BodyFormat.JSON
    assert source.takes_list
    assert source.signature.signed == "{body}"
    assert source.signature.hash is Hash.SHA256
    assert source.signature.encoding is Encoding.HEX
    assert source.secret_env == ("HOOK",)
    assert (source.recipe, source.events, source.delivery_id, source.requested_at) == (None,) * 4


def test_a_source_by_hand_may_use_every_documented_key() -> None:
    source = read_sources("""
        [helpdesk]
        secret_env = ["HOOK", "NEXT"]
        store = "tacos"
        body = "json"
        opt_out = "type == 'sms.unsubscribed'"
        phone_numbers = "contact.phone"
        events = "data"
        list = false
        delivery_id = "header:X-Message-Id"
        requested_at = "occurred_at"
        late = 600
        answer = "twiml"
        [helpdesk.signature]
        scheme = "hmac"
        header = "X-Signature"
        hash = "sha512"
        encoding = "base64"
        prefix = "sha512="
        separator = " "
        signed = "{timestamp}.{id}.{body}"
        secret_format = "text"
        id_header = "webhook-id"
        timestamp = {header = "X-Timestamp", format = "unix_ms", tolerance = 1.5}
    """)["helpdesk"]
    assert source.store == "TACOS"
    assert source.secrets == (b"s3cret-of-the-hook", b"s3cret-of-next")
    assert source.delivery_id_header == "X-Message-Id"
    assert source.signature.timestamp is not None
    assert source.signature.timestamp.format is TimestampFormat.UNIX_MS
    assert source.signature.timestamp.tolerance == 1.5
    assert source.late == 600
    assert "s3cret" not in repr(source)


def test_keys_beside_a_recipe_replace_its_own_one_by_one() -> None:
    source = read_sources("""
        [crm]
        recipe = "customerio"
        secret_env = "HOOK"
        phone_numbers = "mobile"
        [crm.signature]
        encoding = "base64"
        timestamp = {tolerance = 10}
    """)["crm"]
    recipe = recipe_source("customerio")
    assert source.recipe == "customerio"
    assert source.opt_out == recipe.opt_out
    assert source.phone_numbers.text == "mobile"
    assert source.signature.encoding is Encoding.BASE64
    assert source.signature.signed == "v0:{timestamp}:{body}"
    assert source.signature.timestamp is not None
    assert source.signature.timestamp.header == "X-CIO-Timestamp"
    assert source.signature.timestamp.tolerance == 10


def test_a_signature_of_another_scheme_replaces_the_recipes_as_a_whole() -> None:
    source = read_sources("""
        [crm]
        recipe = "customerio"
        secret_env = "HOOK"
        signature = {scheme = "token", header = "X-Token"}
    """)["crm"]
    assert source.signature.scheme is Scheme.TOKEN
    assert source.signature.timestamp is None


def test_an_empty_prefix_removes_the_recipes() -> None:
    text = "[i]\nrecipe = 'intercom'\nsecret_env = 'HOOK'\nsignature = {prefix = ''}"
    assert read_sources(text)["i"].signature.prefix == ""


def test_any_of_the_secrets_verifies_a_message() -> None:
    text = BY_HAND.replace('"HOOK"', '["HOOK", "NEXT"]')
    source = read_sources(text)["helpdesk"]
    for secret in ("s3cret-of-the-hook", "s3cret-of-next"):
        headers = {"x-signature": mac(secret, b"{}").hex()}
        assert source.verify(SignedRequest("POST", "", headers, b"{}"), NOW) is None
    headers = {"x-signature": mac("", b"{}").hex()}
    request = SignedRequest("POST", "", headers, b"{}")
    assert source.verify(request, NOW) is Refusal.WRONG_SIGNATURE


def test_a_secret_that_is_not_utf_8_is_the_bytes_of_the_environment() -> None:
    secrets = {"HOOK": b"\xff\xfe".decode("utf-8", "surrogateescape")}
    sources = read_webhook_sources(BY_HAND, secrets=secrets, stores=["PIZZA"], public_url=None)
    assert sources["helpdesk"].secrets == (b"\xff\xfe",)


def test_an_empty_text_has_no_sources() -> None:
    assert read_sources("") == {}


PREFIX = "[helpdesk] "


@pytest.mark.parametrize(
    ("change", "to", "place"),
    [
        ('secret_env = "HOOK"', "", "secret_env: is missing"),
        ('"HOOK"', '"UNSET"', "secret_env: UNSET is not set"),
        ('"HOOK"', '"EMPTY"', "secret_env: EMPTY is not set"),
        ('"HOOK"', '"BLANK"', "secret_env: BLANK is not set"),
        ('"HOOK"', '["HOOK", "UNSET"]', "secret_env: UNSET is not set"),
        ('"HOOK"', '"s3cret/pasted"', "secret_env: the environment variable it names is not set"),
        ('"HOOK"', "[]", "secret_env: must be the name"),
        ('"HOOK"', '["HOOK", 1]', "secret_env: must be the name"),
        ('"HOOK"', "{}", "secret_env: must be the name"),
        ('opt_out = "stop"', "", "opt_out: is missing"),
        ('"stop"', '""', "opt_out: must not be empty"),
        ('"stop"', "true", "opt_out: must be a string"),
        ('"stop"', '"a ="', "opt_out: is not a valid JMESPath expression"),
        ('"stop"', '"foo["', "opt_out: is not a valid JMESPath expression"),
        (
            '"stop"',
            '"lowercase(a)"',
            "opt_out: is not a valid JMESPath expression: there is no function lowercase()",
        ),
        (
            '"stop"',
            '"a[?lower(b, c)]"',
            "opt_out: is not a valid JMESPath expression: lower() does not take 2",
        ),
        (
            '"stop"',
            '"not_null()"',
            "opt_out: is not a valid JMESPath expression: not_null() does not take 0",
        ),
        ('"stop"', '"' + "(" * 5000 + '"', "opt_out: is not a valid JMESPath expression"),
        (
            'opt_out = "stop"',
            """opt_out = 'type == "sms.stop"'""",
            'opt_out: compares with the field "sms.stop"; to compare with a text, write \'sms.sto',
        ),
        (
            'opt_out = "stop"',
            """opt_out = 'a && (b != ("x y"))'""",
            "opt_out: compares with the field \"x y\"; to compare with a text, write 'x y'",
        ),
        (
            'phone_numbers = "phone"',
            """phone_numbers = 'a[?type=="sms"].phone'""",
            'phone_numbers: compares with the field "sms"; to compare',
        ),
        ('phone_numbers = "phone"', "", "phone_numbers: is missing"),
        ('phone_numbers = "phone"', "phone_numbers = ['phone']", "phone_numbers: must be a string"),
        ("signature =", "signatur =", "signatur: unknown key"),
        ("signature =", "signatur =", "signature: is missing"),
        ('{scheme = "hmac", header = "X-Signature"}', '"hmac"', "signature: must be a table"),
        ('"hmac"', '"ed25519"', "signature.scheme: must be one of hmac, token, twilio"),
        (', header = "X-Signature"', "", "signature.header: is missing"),
        ('"X-Signature"', '"X Signature"', "signature.header: is not the name of a header"),
        ('re"}', 're", hash = "md5"}', "signature.hash: must be one of sha1, sha256, sha512"),
        ('re"}', 're", hash = ["sha1"]}', "signature.hash: must be one of"),
        ('re"}', 're", encoding = "hex "}', "signature.encoding: must be one of hex, base64"),
        ('re"}', 're", secret_format = "hex"}', "signature.secret_format: must be one of"),
        ('re"}', 're", secret_format = "whsec"}', "secret_env: HOOK is not base64 after whsec_"),
        ('re"}', 're", prefix = 1}', "signature.prefix: must be a string"),
        ('re"}', 're", sigend = "{body}"}', "signature.sigend: unknown key"),
        ('re"}', 're", signed = "{Body}"}', 'signature.signed: "{Body}" is unknown'),
        ('re"}', 're", signed = "{}{body}"}', 'signature.signed: "{}" is unknown'),
        ('re"}', 're", signed = "{method}"}', "signature.signed: must contain {body}"),
        ('re"}', 're", signed = "{timestamp}{body}"}', "signature.signed: contains {timestamp}"),
        ('re"}', 're", signed = "{id}{body}"}', "signature.signed: contains {id}"),
        ('re"}', 're", signed = "{url}{body}"}', "signature: covers the address, so PUBLIC_URL"),
        ('re"}', 're", timestamp = "X-T"}', "signature.timestamp: must be a table"),
        ('re"}', 're", timestamp = {}}', "signature.timestamp.header: is missing"),
        ('re"}', 're", timestamp = {header = "T", format = "iso"}}', "signature.timestamp.format"),
        ('re"}', 're", timestamp = {header = "T", skew = 1}}', "signature.timestamp.skew: unknown"),
        ('{scheme = "hmac"', '{hash = "sha1", scheme = "token"', "signature.hash: unknown key"),
        ('"hmac"', '"twilio"', "signature: covers the address, so PUBLIC_URL must be set"),
        ('"hmac"', '"twilio"', "body: must be form"),
        ("[helpdesk]", "[helpdesk]\nstore = 'SUSHI'", "store: must be one of PIZZA, TACOS"),
        ("[helpdesk]", "[helpdesk]\nstore = 'TACO\u017f'", "store: must be one of PIZZA, TACOS"),
        ("[helpdesk]", "[helpdesk]\nlist = 'no'", "list: must be true or false"),
        ("[helpdesk]", "[helpdesk]\nanswer = 'xml'", "answer: must be one of json, twiml"),
        ("[helpdesk]", "[helpdesk]\nbody = 'xml'", "body: must be one of json, form"),
        (
            "[helpdesk]",
            "[helpdesk]\nevents = 'data['",
            "events: is not a valid JMESPath expression",
        ),
        ("[helpdesk]", "[helpdesk]\ndelivery_id = 'header:'", "delivery_id: must name a header"),
        ("[helpdesk]", "[helpdesk]\ndelivery_id = 1", "delivery_id: must be a string"),
        ("[helpdesk]", "[helpdesk]\nrequested_at = ''", "requested_at: must not be empty"),
        ("[helpdesk]", "[helpdesk]\n'a\\nb' = 1", '"a\\\\nb": unknown key'),
        ("[helpdesk]", "[helpdesk]\nlate = 0", "late: must be a positive number of seconds"),
        ("[helpdesk]", "[helpdesk]\nrecipe = 'spotify'", "recipe: must be one of"),
        ("[helpdesk]", "[helpdesk]\nrecipe = 1", "recipe: must be one of"),
    ],
)
def test_a_fault_names_source_and_key(change: str, to: str, place: str) -> None:
    assert change in BY_HAND
    faults = faults_of(BY_HAND.replace(change, to))
    assert any(fault.startswith(PREFIX + place) for fault in faults), faults


@pytest.mark.parametrize(
    "opt_out",
    ["\"a b\" == 'x'", 'a == "b c".d', 'a == "b c"[0]', "a == 'b' && \"c d\"", 'a == `"b"`'],
)
def test_a_field_in_double_quotes_is_fine_elsewhere(opt_out: str) -> None:
    text = BY_HAND.replace('"stop"', f"'''{opt_out}'''")
    assert read_sources(text)["helpdesk"].opt_out.text == opt_out


@pytest.mark.parametrize("secret", ["s3cret\n", "s3cret ", "s3cret\t", "a\ns3cret", " s3cret"])
def test_a_token_that_no_header_can_carry_is_a_fault(secret: str) -> None:
    text = "[zap]\nrecipe = 'braze'\nsecret_env = 'HOOK'"
    with pytest.raises(ConfigurationError) as raised:
        read_webhook_sources(text, secrets={"HOOK": secret}, stores=["PIZZA"], public_url=None)
    assert raised.value.faults == (
        "[zap] secret_env: HOOK has a line end in it, or a blank at its beginning or end, "
        "which no header can carry",
    )


@pytest.mark.parametrize("tolerance", ["0", "-1", "nan", "inf", "true", "'300'", "1" + "0" * 400])
def test_a_tolerance_must_be_a_positive_number(tolerance: str) -> None:
    timestamp = f're", timestamp = {{header = "T", tolerance = {tolerance}}}}}'
    faults = faults_of(BY_HAND.replace('re"}', timestamp))
    where = "[helpdesk] signature.timestamp.tolerance: must be a positive number of seconds"
    assert faults == (where,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a\n", "is not TOML: "),
        ("a = 1\na = 2", "is not TOML: "),
        ("a = " + "[" * 100_000, "is not TOML: "),
        ("recipe = 'shopify'", "recipe: is not a table; each source is a table, [recipe]"),
        (
            BY_HAND.replace("[helpdesk]", "['a b']"),
            '["a b"]: the name must be 1 to 92 ASCII letters, digits',
        ),
        (
            BY_HAND.replace("[helpdesk]", '["é"]'),
            '["\\u00e9"]: the name must be 1 to 92 ASCII letters, digits',
        ),
        (
            BY_HAND.replace("[helpdesk]", '[""]'),
            '[""]: the name must be 1 to 92 ASCII letters, digits',
        ),
    ],
)
def test_a_text_that_is_not_a_table_of_sources_is_refused(text: str, fault: str) -> None:
    assert faults_of(text)[0].startswith(fault)


def test_all_faults_of_all_sources_are_named_at_once() -> None:
    faults = faults_of("""
        [one]
        recipe = "twilio"
        secret_env = "UNSET"
        [two]
        recipe = "nobody"
        stores = "PIZZA"
        [three]
    """)
    assert [fault.partition(": ")[0] for fault in faults] == [
        "[one] secret_env",
        "[one] signature",
        "[two] recipe",
        "[two] secret_env",
        "[two] stores",
        "[three] secret_env",
        "[three] opt_out",
        "[three] phone_numbers",
        "[three] signature",
    ]


def test_without_stores_the_store_is_not_what_is_wrong() -> None:
    sources = read_webhook_sources(BY_HAND, secrets=ENVIRONMENT, stores=[], public_url=None)
    assert sources["helpdesk"].store == ""


@pytest.mark.parametrize("recipe", read_recipes())
def test_a_recipe_names_its_senders_documentation(recipe: str) -> None:
    assert re.fullmatch(
        r"https://[a-z.]+(/[A-Za-z0-9_./-]*)?", read_recipes()[recipe].documentation
    )


def test_a_recipe_without_documentation_or_sample_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^recipes.toml: \[shop\] has no documentation and no samp"
    ):
        recipes_in("[shop]\nopt_out = '@'\n")
