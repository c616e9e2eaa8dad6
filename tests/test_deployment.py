"""What a deployment is made of says the same as the code."""

import json
import re
import shlex
from collections.abc import Mapping
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.webhooks.recipes import read_recipes
from tests.support.commands import Printed, gateway_here
from tests.support.documents import anchors, text_of
from tests.support.factories import ROOT, make_environment
from tests.support.signing import SECRET, SENDERS, Message

API_SETTINGS = {
    *["CRMTEXT_AUTH_STRINGS", "CRMTEXT_URL", "CRMTEXT_TIMEOUT", "CRMTEXT_RATE"],
    *["GATEWAY_API_KEYS", "DATABASE_URL", "DELIVERY_DAYS", "WEBHOOK_SOURCES", "PUBLIC_URL"],
    *["HOST", "PORT", "WEB_CONCURRENCY", "LOG_LEVEL"],
}


class Asked(dict[str, str]):
    """An environment that remembers which variables it was asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.add(name)
        return super().get(name, default)


@pytest.fixture
def settings_read() -> set[str]:
    """The variables that the gateway reads."""
    environment = Asked(make_environment())
    Settings.from_env(environment)
    return environment.names


# --- settings and Heroku


def test_the_settings_are_those_of_the_contract(settings_read: set[str]) -> None:
    assert settings_read == API_SETTINGS


def test_app_json_describes_every_setting_and_no_other(settings_read: set[str]) -> None:
    env = json.loads(text_of("app.json"))["env"]
    assert set(env) == settings_read
    for variable in env.values():
        assert variable["description"]
        assert isinstance(variable["required"], bool)


def test_app_json_requires_what_has_no_default() -> None:
    env = json.loads(text_of("app.json"))["env"]
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_env({})
    missing = {fault.partition(":")[0] for fault in raised.value.faults}
    assert {name for name, variable in env.items() if variable["required"]} == missing


def test_app_jsons_values_are_the_defaults() -> None:
    env = json.loads(text_of("app.json"))["env"]
    required = {name: make_environment()[name] for name, one in env.items() if one["required"]}
    values = {name: variable["value"] for name, variable in env.items() if "value" in variable}
    assert Settings.from_env(required | values) == Settings.from_env(required)


def test_heroku_gets_a_database_and_a_worker() -> None:
    app = json.loads(text_of("app.json"))
    assert [addon.partition(":")[0] for addon in app["addons"]] == ["heroku-postgresql"]
    assert {name: one["quantity"] for name, one in app["formation"].items()} == {
        "web": 1,
        "worker": 1,
    }


@pytest.mark.parametrize("document", ["docs/deploying.md", "README.md"])
def test_every_setting_is_documented(document: str, settings_read: set[str]) -> None:
    text = text_of(document)
    assert {name for name in settings_read if f"`{name}`" not in text} == set()


# --- processes


def commands_of(procfile: str) -> Mapping[str, list[str]]:
    lines = (line.partition(":") for line in text_of(procfile).splitlines())
    return {name: shlex.split(command) for name, _, command in lines}


def test_the_procfile_has_the_three_processes() -> None:
    assert commands_of("Procfile") == {
        "web": ["gunicorn", "wsgi:app"],
        "worker": ["python", "-m", "gateway", "worker"],
        "release": ["python", "-m", "gateway", "release"],
    }


def test_the_local_procfile_serves_the_same_and_does_not_release() -> None:
    local, deployed = commands_of("Procfile.dev"), commands_of("Procfile")
    assert {name: local[name] for name in ("web", "worker")} == {
        name: deployed[name] for name in ("web", "worker")
    }
    assert "release" not in local


def unit(name: str) -> Mapping[str, str]:
    """The settings of a systemd unit's second section."""
    read = ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    read.read_string(text_of(f"docs/server/{name}"))
    return read[read.sections()[1]]


def test_a_plain_server_runs_the_same_processes() -> None:
    web, worker = unit("crmtext-gateway-web.service"), unit("crmtext-gateway-worker.service")
    commands = {
        "web": web["ExecStart"],
        "release": web["ExecStartPre"],
        "worker": worker["ExecStart"],
    }
    home = "/opt/crmtext-gateway/.venv/bin/"
    assert {
        name: shlex.split(command.removeprefix(home)) for name, command in commands.items()
    } == commands_of("Procfile")


def test_both_services_of_a_plain_server_have_the_same_settings_and_rights() -> None:
    both = [unit("crmtext-gateway-web.service"), unit("crmtext-gateway-worker.service")]
    for name in ("User", "WorkingDirectory", "EnvironmentFile", "StateDirectory", "ProtectSystem"):
        assert both[0][name] == both[1][name]


def test_the_front_of_a_plain_server_is_known_as_a_proxy_and_keeps_slow_clients_away() -> None:
    front = text_of("docs/server/nginx.conf")
    port = unit("crmtext-gateway-web.socket")["ListenStream"]
    assert f"proxy_pass http://{port};" in front
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in front
    assert "proxy_request_buffering" not in front


def test_compose_runs_the_same_processes_on_the_image() -> None:
    services = yaml.safe_load(text_of("compose.yaml"))["services"]
    [web] = [
        json.loads(line[4:]) for line in text_of("Dockerfile").splitlines() if line[:4] == "CMD "
    ]
    assert {
        name: services[name].get("command", web) for name in ("web", "worker", "release")
    } == commands_of("Procfile")
    assert {services[name]["env_file"] for name in ("web", "worker", "release")} == {"gateway.env"}
    assert [service for service in services if "ports" in services[service]] == ["web"]
    assert services["web"]["ports"] == ["127.0.0.1:8000:8000"]


def test_nobody_commits_the_settings_of_a_container() -> None:
    assert {".env", "gateway.env"} <= set(text_of(".gitignore").splitlines())


def test_the_container_holds_what_runs_and_not_as_root() -> None:
    lines = text_of("Dockerfile").replace("\\\n", "").splitlines()
    sources = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    ignored = [line for line in text_of(".dockerignore").splitlines() if line[:1] not in ("#", "")]
    assert ignored[0] == "*"
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(sources)
    assert all((ROOT / name).exists() for name in sources)
    assert "USER gateway" in lines
    assert 'CMD ["gunicorn", "wsgi:app"]' in lines
    assert any("--require-hashes -r requirements.txt" in line for line in lines)
    [health] = [line for line in lines if line.startswith("HEALTHCHECK")]
    assert "/healthz" in health
    compile(json.loads(health[health.index("[") :])[2], "HEALTHCHECK", "exec")


def test_all_that_the_code_reads_at_run_time_is_in_the_container() -> None:
    ignored = [line for line in text_of(".dockerignore").splitlines() if line.startswith("**/")]
    needed = [
        "gateway/webhooks/recipes.toml",
        "gateway/web/problems.toml",
        "gateway/web/docs/guide.md",
        "gateway/web/docs/static/index.html",
        "gateway/ledger/migrations/versions/0001_ledger.py",
    ]
    assert all((ROOT / name).is_file() for name in needed)
    assert not any(fnmatch(name, pattern) for name in needed for pattern in ignored)


# --- documents


def test_every_recipe_has_a_row_in_both_tables() -> None:
    tables = text_of("docs/webhooks.md").split("| recipe | ")[1:]
    for table in tables:
        rows = [line.split("|")[1] for line in table.split("\n\n")[0].splitlines()[2:]]
        assert set(re.findall(r"`([a-z-]+)`", " ".join(rows))) == set(read_recipes())
    assert len(tables) == 2


def test_the_guides_sources_start_the_gateway() -> None:
    examples = re.findall(r"```toml\n(.*?)```", text_of("docs/webhooks.md"), re.S)
    assert len(examples) == 2
    secrets = {"SHOP_HOOK_SECRET": SECRET, "HELPDESK_SECRET": SECRET}
    for example in examples:
        sources = Settings.from_env(make_environment(WEBHOOK_SOURCES=example, **secrets))
        assert len(sources.webhook_sources) == 1


def test_the_guides_check_prints_what_it_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    guide = text_of("docs/webhooks.md")
    shown = re.search(r"\$ python -m gateway (webhooks check .*)\n((?s:.*?))```", guide)
    assert shown
    sample = ROOT / "tests/webhook_samples/shopify_customers_marketing_consent_update.json"
    message = Message(sample.read_bytes())
    headers = {**SENDERS["shopify"].headers(SECRET, message), "Content-Type": "application/json"}
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    (tmp_path / "message.http").write_bytes(f"{head}\r\n".encode() + message.body)
    monkeypatch.chdir(tmp_path)
    source = "[shop]\nrecipe = 'shopify'\nsecret_env = 'HOOK_SECRET'"
    printed = gateway_here(*shown[1].split(), WEBHOOK_SOURCES=source, HOOK_SECRET=SECRET)
    assert printed == Printed(0, shown[2], "")


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^):#]*)(?:#([^)]+))?\)", document.read_text(encoding="utf-8"))
    for name, anchor in links:
        target = document.parent / name if name else document
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), anchor


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
def test_the_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:gateway|tests|schemas|docs|benchmarks)/[a-z0-9_./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
