"""Imports run one way, as ARCHITECTURE.md says; a new module has to find its place here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import ROOT

# Each layer may import those before it, and its own members one another.
LAYERS = (
    {
        "gateway.errors",
        "gateway.expressions",
        "gateway.form_body",
        "gateway.opt_out",
        "gateway.phone_number",
        "gateway.strict_json",
        "gateway.timestamps",
        "gateway.toml_table",
        "gateway.twilio",
        "gateway.signatures",
        "gateway.webhook_config",
        "gateway.webhook_sources",
        "gateway.saved_delivery",
        "gateway.settings",
        "gateway.logs",
        "gateway.metrics",
        "gateway.request_headers",
        "gateway.cursors",
        "gateway.sandbox",
        "schemas.fields",
        "schemas.opt_out",
        "schemas.problem",
        "schemas.webhook",
    },
    {"gateway.deadline_http", "gateway.crmtext_answers", "gateway.crmtext"},
    {
        "gateway.database",
        "gateway.ledger_tables",
        "gateway.ledger_rows",
        "gateway.ledger_reading",
        "gateway.ledger",
        "gateway.migrations",
        "gateway.migrations.upgrade",
        "gateway.migrations.env",
        "gateway.migrations.versions.0001_ledger",
    },
    {"gateway.delivery"},
    {
        "gateway.request_body",
        "gateway.problems",
        "gateway.api",
        "gateway.webhooks",
        "gateway.webhook_setup",
        "gateway.operations",
        "gateway.openapi",
        "gateway.openapi_document",
        "gateway.openapi_routes",
    },
    {"gateway.app", "gateway.worker", "gateway.gunicorn_worker"},
    {"gateway.commands", "gateway.__main__", "wsgi", "gunicorn.conf"},
)
EDGE = 4
MAY_READ_THE_ENVIRONMENT = {"gateway.settings", "gateway.__main__", "wsgi", "gunicorn.conf"}
FILES = {
    str(file.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"): file
    for pattern in ("gateway/**/*.py", "schemas/*.py", "wsgi.py", "gunicorn.conf.py")
    for file in sorted(ROOT.glob(pattern))
    if file.read_text(encoding="utf-8")
}


def layer_of(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if module in layer)


def parsed(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def imported(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; of our own with its full name."""
    for node in parsed(file):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            inner = {f"{module}.{name.name}" for name in node.names} & set(FILES)
            yield from inner or {module}


def test_every_module_has_its_place() -> None:
    assert {module for layer in LAYERS for module in layer} == set(FILES)


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_no_layer_above_its_own(module: str) -> None:
    ours = [name for name in imported(FILES[module]) if name in FILES]

    assert [name for name in ours if layer_of(name) > layer_of(module)] == []


@pytest.mark.parametrize("module", FILES)
def test_flask_begins_at_the_edge(module: str) -> None:
    web = {name for name in imported(FILES[module]) if name.split(".")[0] in ("flask", "werkzeug")}

    assert not web or layer_of(module) >= EDGE


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("schemas.")])
def test_schemas_know_neither_database_nor_requests(module: str) -> None:
    assert {name.split(".")[0] for name in imported(FILES[module])} <= {
        "collections",
        "datetime",
        "gateway",
        "marshmallow",
        "re",
        "schemas",
        "typing",
    }


@pytest.mark.parametrize("module", FILES)
def test_none_but_the_settings_reads_the_environment(module: str) -> None:
    reads = [
        node
        for node in parsed(FILES[module])
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    ]

    assert not reads or module in MAY_READ_THE_ENVIRONMENT


def test_importing_the_application_builds_nothing() -> None:
    built = [
        (module, node.lineno)
        for module in ("gateway.app", "gateway.worker", "gateway.api", "gateway.delivery")
        for node in ast.parse(FILES[module].read_text(encoding="utf-8")).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]

    assert built == []
