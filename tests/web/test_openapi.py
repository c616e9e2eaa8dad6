"""The OpenAPI document: complete, true to the URL map and to the answers, and valid."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator
from werkzeug.test import TestResponse

from gateway.errors import ERRORS, ErrorCode, GatewayError
from gateway.phone_number import read_phone_number
from gateway.version import VERSION
from gateway.web.docs.description import description_of
from gateway.web.docs.document import describe
from gateway.web.docs.enums import MEANINGS
from gateway.web.requests import read_idempotency_key
from tests.support.factories import API_KEY, BEARER, NUMBER, make_environment, serve
from tests.support.fake_crmtext import FakeCrmText, Reply, xml

OPT_OUTS = "/v1/opt-outs"


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    with app.app_context():
        return describe(app)


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def validator(document: Mapping[str, Any], schema: object) -> Draft202012Validator:
    """Of a schema in the document; answers may gain members, but not without a word of them."""
    components = closed(document["components"])
    wrapped = {"allOf": [closed(schema)], "components": components}
    return Draft202012Validator(wrapped, validate_formats=True)


def closed(schema: object) -> object:
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    members = {name: closed(one) for name, one in schema.items()}
    return {"additionalProperties": False, **members} if "properties" in schema else members


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()  # raises


def test_the_version_is_the_gateways(document: dict[str, Any]) -> None:
    assert document["info"]["version"] == VERSION


def test_every_route_and_method_is_in_the_document_and_nothing_else_is(
    app: Flask, document: dict[str, Any]
) -> None:
    """HEAD and OPTIONS are HTTP's own, and the page's files are not part of the API."""
    routed = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not rule.rule.startswith("/docs/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(document)} == routed


def test_every_operation_has_a_name_of_its_own_that_a_client_can_use(
    document: dict[str, Any],
) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch("[a-z]+([A-Z][a-z]+)+", name)] == []


def test_a_description_changes_nothing_about_a_view(app: Flask) -> None:
    view = app.view_functions["operations.health"]
    assert description_of(view)
    assert not hasattr(view, "__wrapped__")


def test_every_error_code_is_documented_with_its_status(document: dict[str, Any]) -> None:
    met = {
        (code, int(status))
        for _, _, operation in operations(document)
        for status, answer in operation["responses"].items()
        for code in answer["content"].get("application/problem+json", {"examples": {}})["examples"]
    }
    # These are codes of a field or of an opt-out on record, never a problem's own.
    refusals = {ErrorCode.CUSTOMER_NOT_FOUND, ErrorCode.CRMTEXT_REJECTED}
    of_records = {ErrorCode.INVALID_PHONE_NUMBER} | {
        code for code in ErrorCode if code.startswith("crmtext_") and code not in refusals
    }
    assert met == {(code, ERRORS[code].status) for code in ErrorCode if code not in of_records}


def test_every_enum_is_one_component_that_explains_each_value(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for enum, meanings in MEANINGS.items():
        component = schemas[enum.__name__]
        assert component["enum"] == list(enum) == list(meanings)
        assert component["x-enum-descriptions"] == list(meanings.values())
        assert [value for value in enum if f"- `{value}`: " not in component["description"]] == []
    others = [
        (name, field)
        for name, schema in schemas.items()
        for field, described in schema.get("properties", {}).items()
        if "enum" in described
    ]
    assert others == []


def test_no_field_of_a_request_has_null_as_its_default(document: dict[str, Any]) -> None:
    """Generators take a field with a default for one that is always there."""
    assert '"default": null' not in json.dumps(document)


def test_every_example_is_valid_against_its_schema(document: dict[str, Any]) -> None:
    examples = [
        (entry["schema"], example)
        for _, _, operation in operations(document)
        for content in (operation.get("requestBody", {}), *operation["responses"].values())
        for entry in content.get("content", {}).values()
        for example in examples_of(document, entry)
    ]
    assert len(examples) > 60
    faults = [
        (example, error.message)
        for schema, example in examples
        for error in validator(document, schema).iter_errors(example)
    ]
    assert faults == []


def examples_of(document: Mapping[str, Any], entry: Mapping[str, Any]) -> list[object]:
    named = [
        reference["$ref"].rpartition("/")[2] for reference in entry.get("examples", {}).values()
    ]
    values = [document["components"]["examples"][name]["value"] for name in named]
    return [*values, entry["example"]] if "example" in entry else values


def test_every_example_of_a_field_is_valid_too(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        for field in schema.get("properties", {}).values():
            for example in field.get("examples", []):
                assert validator(document, field).is_valid(example), field


def test_the_request_that_the_page_offers_is_accepted(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    body = document["paths"][OPT_OUTS]["post"]["requestBody"]["content"]["application/json"]
    assert client.post(OPT_OUTS, headers=BEARER, json=body["example"]).status_code == 200


def test_the_document_says_nothing_about_this_installation(client: FlaskClient) -> None:
    text = client.get("/openapi.json").get_data(as_text=True)
    assert "BURGER" not in text
    assert "pizzeria" not in text


@pytest.mark.parametrize(
    "given",
    [
        *("9995551234", "(999) 555-1234", "+1 999-555-1234", "1.999.555.1234", "tel:+19995551234"),
        *(" 9995551234\n", "TEL:9995551234", "1 (999)/555 1234", 9995551234, 19995551234),
        *(
            "+9995551234",
            "+529995551234",
            "999555123",
            "19995551234x1",
            "-9995551234",
            "9995551234-",
        ),
        *("", "9" * 11, "9" * 33, "9" * 10 + " " * 23, "٩٩٩٥٥٥١٢٣٤", 999555123, 29995551234),
        *(True, 99955.5, None, [], "tel: 9995551234", "+ 19995551234"),
    ],
)
def test_the_document_and_the_gateway_mean_the_same_phone_numbers(
    document: dict[str, Any], given: object
) -> None:
    field = document["components"]["schemas"]["OptOutRequest"]["properties"]["phone_number"]
    is_usable = read_phone_number(given).digits is not None
    assert validator(document, field).is_valid(given) is is_usable


@pytest.mark.parametrize(
    "given",
    [
        *("a", "a b", '"a"', '"a\\"b"', '"a\\\\b"', "a" * 255, f'"{"a" * 255}"', 'a"b', "{}"),
        *("", '"', '""', '"a', '"a"b', '"a\\b"', "a" * 256, f'"{"a" * 256}"', "ä", "a\tb"),
    ],
)
def test_the_document_and_the_gateway_mean_the_same_idempotency_keys(
    document: dict[str, Any], given: str
) -> None:
    schema = document["components"]["parameters"]["Idempotency-Key"]["schema"]
    try:
        read_idempotency_key(given)
    except GatewayError:
        taken = False
    else:
        taken = True
    assert validator(document, schema).is_valid(given) is taken


def assert_described(document: Mapping[str, Any], path: str, answer: TestResponse) -> None:
    """Status, media type, headers and body are as the document has them."""
    described = document["paths"][path][answer.request.method.lower()]["responses"]
    said = described[str(answer.status_code)]
    faults = validator(document, said["content"][answer.mimetype]["schema"])
    assert [error.message for error in faults.iter_errors(answer.get_json())] == []
    for name, header in said["headers"].items():
        known = document["components"]["headers"].get(name, header)
        assert name in answer.headers or not known["required"], name


def test_answers_of_every_kind_are_as_described(
    client: FlaskClient, crmtext: FakeCrmText, document: dict[str, Any]
) -> None:
    def ask(path: str, template: str, body: object = None, **headers: str) -> TestResponse:
        method = "get" if body is None and not path.endswith("/retry") else "post"
        answer = client.open(path, method=method, headers=BEARER | headers, json=body)
        assert_described(document, template, answer)
        return answer

    number = {"phone_number": NUMBER}
    done = ask(OPT_OUTS, OPT_OUTS, number)
    one = f"{OPT_OUTS}/{done.get_json()['id']}"
    crmtext.answers(Reply(404, xml("404", "no such customer")), Reply(503, b"<html>"))
    statuses = [
        done.status_code,
        ask(OPT_OUTS, OPT_OUTS, number | {"reference": "404"}).status_code,
        ask(OPT_OUTS, OPT_OUTS, number | {"reference": "503"}).status_code,
        ask(OPT_OUTS, OPT_OUTS, number, Prefer="respond-async").status_code,
        ask(OPT_OUTS, OPT_OUTS, {"phone_number": "1", "stor": "x"}).status_code,
        ask(OPT_OUTS, OPT_OUTS, number, Authorization="Bearer x").status_code,
        ask(one, f"{OPT_OUTS}/{{opt_out_id}}").status_code,
        ask(f"{one}/attempts", f"{OPT_OUTS}/{{opt_out_id}}/attempts").status_code,
        ask(f"{one}/retry", f"{OPT_OUTS}/{{opt_out_id}}/retry").status_code,
        ask(f"{OPT_OUTS}/search", f"{OPT_OUTS}/search", {"limit": 2}).status_code,
        ask(f"{OPT_OUTS}/search", f"{OPT_OUTS}/search", {"cursor": "x"}).status_code,
        ask("/v1/webhooks/nobody", "/v1/webhooks/{source}", {}).status_code,
        ask("/healthz", "/healthz").status_code,
        ask("/readyz", "/readyz").status_code,
        ask("/openapi.json", "/openapi.json").status_code,
    ]
    assert statuses == [200, 404, 202, 202, 422, 401, 200, 200, 409, 200, 400, 404, 200, 200, 200]


@pytest.fixture
def served(crmtext: FakeCrmText, database_url: str, tmp_path: Path) -> Iterator[str]:
    environment = make_environment(
        CRMTEXT_URL=crmtext.url,
        DATABASE_URL=database_url,
        WEB_CONCURRENCY="1",
        WEBHOOK_SOURCES=_SOURCE,
        HELPDESK_SECRET="a-token",
    )
    with serve(environment, tmp_path) as gateway:
        yield gateway.url


_SOURCE = """
[helpdesk]
secret_env = "HELPDESK_SECRET"
opt_out = "event == 'stop'"
phone_numbers = "phone"
signature = {scheme = "token", header = "X-Token"}
"""

# What JSON Schema cannot say: that a time is past, a store configured, 9995551234.0 no integer.
# A search's cursor has to be one that was given out, and a webhook is as its source sends it.
_SCHEMATHESIS = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422", "5xx"]

[parameters]
"path.opt_out_id" = "{opt_out_id}"
"path.source" = "helpdesk"

[[operations]]
include-name = "POST /v1/opt-outs/search"
checks.positive_data_acceptance.expected-statuses = ["200", "400", "403", "422"]

[[operations]]
include-name = "POST /v1/webhooks/{{source}}"
checks.positive_data_acceptance.expected-statuses = ["200", "202", "400", "415"]
"""


@pytest.mark.schemathesis
def test_schemathesis_finds_nothing_at_the_running_gateway(served: str, tmp_path: Path) -> None:
    opt_out = requests.post(
        f"{served}{OPT_OUTS}", headers=BEARER, json={"phone_number": NUMBER}, timeout=10
    ).json()
    description, configuration = tmp_path / "openapi.json", tmp_path / "schemathesis.toml"
    # From a file, since schemathesis leaves out the address that it has the document from.
    description.write_bytes(requests.get(f"{served}/openapi.json", timeout=10).content)
    configuration.write_text(_SCHEMATHESIS.format(opt_out_id=opt_out["id"]), encoding="utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={configuration}", "run"]
    options = [
        f"--url={served}",
        f"--header=Authorization:Bearer {API_KEY}",
        "--header=X-Token:a-token",
    ]
    bounds = ["--checks=all", "--max-examples=20", "--seed=1", "--request-timeout=10"]
    run = subprocess.run(
        [*command, str(description), *options, *bounds, "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "13 selected / 13 total" in run.stdout
