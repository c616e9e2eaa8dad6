"""GET /openapi.json, and GET /docs: a page to read and try it, with no asset from elsewhere."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

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

_OWN_FILES = Path(__file__).with_name("static")
_SWAGGER_FILES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})
_CSP = "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
_SECONDS_KEPT = 300
_SWAGGER_SECONDS_KEPT = 24 * 3600
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
    html = (_OWN_FILES / "index.html").read_text(encoding="utf-8")
    swagger = str(files("flask_swagger_ui") / "dist")

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
                302: Success("For a browser: to the documentation.", {}),
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
        return _kept(make_response(content()), _JSON)

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
        response = _kept(make_response(html), "text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _CSP
        return response

    @pages.get("/docs/<asset>")
    def asset(asset: str) -> Response:
        if asset in ("page.css", "start.js"):
            return send_from_directory(_OWN_FILES, asset, max_age=_SECONDS_KEPT)
        if asset in _SWAGGER_FILES:
            return send_from_directory(swagger, asset, max_age=_SWAGGER_SECONDS_KEPT)
        raise GatewayError(ErrorCode.NOT_FOUND, "There is no such file.")

    return pages


def _kept(response: Response, media_type: str) -> Response:
    response.content_type = media_type
    response.cache_control.public = True
    response.cache_control.max_age = _SECONDS_KEPT
    return response
