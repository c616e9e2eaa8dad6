"""Imports run one way, floor by floor. A new folder has to find its place here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from tests.support.factories import ROOT

# A room is a folder or a module of gateway/, schemas/, or a module at the top level. It may import
# itself and the floors before its own; the nouns, which are small, also one another.
NOUNS = (
    "consent phone_number stop_words accounts errors bodies timestamps deadline_http logs metrics "
    "limits version"
)
FLOORS = (
    NOUNS,
    "schemas crmtext ledger webhooks",
    "settings",
    "delivery",
    "assembly",
    "web cli",
    "app __main__",
    "wsgi gunicorn.conf",
)
# Stands beside the house: it imports nothing of ours, and nothing imports it.
SANDBOX = "sandbox"
FLASK = {"web", "app"}
MAY_READ_THE_ENVIRONMENT = {"settings", "__main__", "wsgi", "gunicorn.conf"}
FILES = {
    str(file.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"): file
    for pattern in ("gateway/**/*.py", "schemas/*.py", "wsgi.py", "gunicorn.conf.py")
    for file in sorted(ROOT.glob(pattern))
    if file.read_text(encoding="utf-8") and file != ROOT / "gateway/__init__.py"
}
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor.split()}


def room_of(module: str) -> str:
    if module == "gunicorn.conf":
        return module
    first, *rest = module.split(".")
    return rest[0] if first == "gateway" else first


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


def may_import(room: str, other: str) -> bool:
    if room == other:
        return True
    if SANDBOX in (room, other):
        return False
    both_are_nouns = room in NOUNS.split() and other in NOUNS.split()
    return both_are_nouns or FLOOR_OF[other] < FLOOR_OF[room]


def test_the_map_shows_every_room() -> None:
    words = set(re.findall(r"\w+", gateway.__doc__ or ""))
    assert {room_of(name) for name in FILES} - {
        "__main__",
        "wsgi",
        "gunicorn.conf",
    } - words == set()


def test_what_the_map_points_to_is_there() -> None:
    paths = set(re.findall(r"[a-z_]+/[a-z_/]*(?:\.[a-z]+)?", gateway.__doc__ or ""))
    places = [ROOT / "gateway", ROOT]
    assert "web/api/opt_outs" in paths
    assert [
        path
        for path in sorted(paths)
        if not any((place / each).exists() for place in places for each in (path, f"{path}.py"))
    ] == []


def test_every_room_has_its_floor() -> None:
    assert {room_of(module) for module in FILES} - {SANDBOX} == set(FLOOR_OF)


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_the_floors_before_its_own(module: str) -> None:
    ours = {room_of(name) for name in imported(FILES[module]) if name in FILES}

    wrong = [room for room in sorted(ours) if not may_import(room_of(module), room)]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {
        module: {name for name in imported(file) if name in FILES} for module, file in FILES.items()
    }
    while ready := {module for module, needed in left.items() if not needed & set(left)}:
        left = {module: needed for module, needed in left.items() if module not in ready}

    assert left == {}


@pytest.mark.parametrize("module", FILES)
def test_flask_is_used_only_in_web_and_app(module: str) -> None:
    web = {name for name in imported(FILES[module]) if name.split(".")[0] in ("flask", "werkzeug")}

    assert not web or room_of(module) in FLASK


def test_only_the_app_imports_what_has_addresses() -> None:
    """What two of them need has a module of its own (callers, requests, problems)."""
    with_addresses = {
        module
        for module, file in FILES.items()
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "blueprint" for node in parsed(file)
        )
    }
    importers = {module for module, file in FILES.items() if with_addresses & set(imported(file))}

    assert importers == {"gateway.app"}


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("schemas.")])
def test_schemas_know_neither_database_nor_requests(module: str) -> None:
    assert {name.split(".")[0] for name in imported(FILES[module])} <= {
        "collections",
        "datetime",
        "enum",
        "gateway",
        "marshmallow",
        "re",
        "schemas",
        "typing",
    }


@pytest.mark.parametrize("module", FILES)
def test_only_settings_reads_the_environment(module: str) -> None:
    reads = [
        node
        for node in parsed(FILES[module])
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("environ", "environb", "getenv")
            and not (isinstance(node.value, ast.Name) and node.value.id == "request")
        )
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    ]

    assert not reads or room_of(module) in MAY_READ_THE_ENVIRONMENT


def test_importing_a_module_builds_nothing() -> None:
    entrances = {"wsgi", "gunicorn.conf", "gateway.ledger.migrations.env"}
    built = [
        (module, node.lineno)
        for module in FILES.keys() - entrances
        for node in ast.parse(FILES[module].read_text(encoding="utf-8")).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]

    assert built == []
