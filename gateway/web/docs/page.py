"""GET /openapi.json, and GET /docs: a page to read and try it, with no asset from elsewhere."""

import json
from functools import cache
from importlib.resources import files

from flask import (
    Blueprint,
    Response,
    current_app,
    make_response,
    redirect,
    request,
    send_from_directory,
)

from gateway.errors import ErrorCode, GatewayError
from gateway.version import VERSION
from gateway.web.answers import json_answer
from gateway.web.docs.description import (
    Description,
    Success,
    Tag,
    described,
    json_content,
    text_content,
)
from gateway.web.docs.document import TITLE, describe
from schemas.health import IndexSchema

_ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})
_CSP = "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
_SECONDS_KEPT = 300
_ASSETS_SECONDS_KEPT = 24 * 3600
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>CRM Text opt-out gateway</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null
});
"""
_JSON = "application/json"
_INDEX = {
    "name": TITLE,
    "version": VERSION,
    "documentation": "/docs",
    "openapi": "/openapi.json",
    "health": "/healthz",
    "readiness": "/readyz",
}

_index = IndexSchema()


def blueprint() -> Blueprint:
    """The document and the page. Anyone may read them: they say nothing about this installation."""
    pages = Blueprint("docs", __name__)
    assets = str(files("flask_swagger_ui") / "dist")

    @cache  # made at its first use, so that the start need not wait for it
    def content() -> bytes:
        return json.dumps(describe(current_app)).encode() + b"\n"

    @pages.get("/")
    @described(
        Description(
            "getIndex",
            Tag.OPERATIONS,
            "Where to go from here",
            {
                200: Success("For a program.", json_content(_index, _INDEX)),
                302: Success("For a browser: to the documentation.", {}, ("Location",)),
            },
        )
    )
    def index() -> Response:
        wants_html = request.accept_mimetypes.best_match([_JSON, "text/html"]) == "text/html"
        response = make_response(redirect("/docs")) if wants_html else json_answer(_index, _INDEX)
        response.headers["Vary"] = "Accept"
        return response

    @pages.get("/openapi.json")
    @described(
        Description(
            "getOpenApiDocument",
            Tag.OPERATIONS,
            "This document",
            {200: Success("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})},
        )
    )
    def document() -> Response:
        return _cached(make_response(content()), "application/json")

    @pages.get("/docs")
    @described(
        Description(
            "getDocs",
            Tag.OPERATIONS,
            "The page to read this and try it",
            {200: Success("For a person.", text_content("text/html"))},
        )
    )
    def page() -> Response:
        return _cached(make_response(_PAGE), "text/html; charset=utf-8")

    @pages.get("/docs/start.js")
    def start() -> Response:
        return _cached(make_response(_START), "text/javascript; charset=utf-8")

    @pages.get("/docs/<asset>")
    def asset(asset: str) -> Response:
        if asset not in _ASSETS:
            raise GatewayError(ErrorCode.NOT_FOUND, "There is no such file.")
        return send_from_directory(assets, asset, max_age=_ASSETS_SECONDS_KEPT)

    return pages


def _cached(response: Response, media_type: str) -> Response:
    response.content_type = media_type
    response.headers["Content-Security-Policy"] = _CSP
    response.cache_control.public = True
    response.cache_control.max_age = _SECONDS_KEPT
    return response
