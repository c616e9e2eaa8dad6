"""The forty lines that most people would write; what the gateway is compared with."""

import os

import requests
import xmltodict
from flask import Flask, Response, jsonify, make_response, request
from marshmallow import Schema, ValidationError, fields, validate

CRMTEXT_URL = os.environ.get("CRMTEXT_URL", "https://restapi.crmtext.com/smapi/rest")
USERNAME, PASSWORD = os.environ.get("CRMTEXT_AUTH_STRINGS", "user:password:PIZZA").split(":", 1)

app = Flask(__name__)


class OptOutSchema(Schema):
    """What a caller sends."""

    phone_number = fields.String(required=True, validate=validate.Regexp(r"^\d{10}$"))


@app.post("/v1/opt-outs")
def opt_out() -> Response:
    try:
        given = OptOutSchema().load(request.get_json())
    except ValidationError as error:
        return make_response(jsonify(errors=error.messages), 422)
    response = requests.post(
        CRMTEXT_URL,
        data={"method": "optoutcustomer", "phone_number": given["phone_number"]},
        auth=(USERNAME, PASSWORD),
        timeout=6,
    )
    answer = xmltodict.parse(response.content)["response"]
    if answer["@status"] != "200":
        return make_response(jsonify(error=answer["@message"]), 502)
    customer = answer["customer"]
    return jsonify(
        status="opted_out", phone_number=customer["custMobile"], customer_id=customer["custId"]
    )
