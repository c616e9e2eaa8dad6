"""What a deployment is made of says the same as the code."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.webhooks.recipes import read_recipes
from tests.support.commands import Printed, gateway_here
from tests.support.factories import BEARER, NUMBER, ROOT, make_environment
from tests.support.signing import SECRET, SENDERS, Delivery

API_SETTINGS = {
    *["CRMTEXT_AUTH_STRINGS", "CRMTEXT_URL", "CRMTEXT_TIMEOUT", "CRMTEXT_RATE"],
    *["GATEWAY_API_KEYS", "DATABASE_URL", "DELIVERY_DAYS", "WEBHOOK_SOURCES", "PUBLIC_URL"],
    *["HOST", "PORT", "WEB_CONCURRENCY", "LOG_LEVEL"],
}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


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
    needed = ["gateway/webhooks/recipes.toml", "gateway/ledger/migrations/versions/0001_ledger.py"]
    assert all((ROOT / name).is_file() for name in needed)
    assert not any(fnmatch(name, pattern) for name in needed for pattern in ignored)


# --- alerts


def alert_rules() -> list[dict[str, str]]:
    [group] = yaml.safe_load(text_of("docs/alerts.yml"))["groups"]
    rules: list[dict[str, str]] = group["rules"]
    return rules


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of a PromQL expression, each with the labels that it is narrowed by."""
    unquoted = re.sub('"[^"]*"', '""', expression)
    for name, labels in re.findall(r"\b(optouts|[a-z]+_[a-z_]+)\b(?!\()(?:{(.*?)})?", unquoted):
        yield name, set(re.findall(r"(\w+)=", labels))


@pytest.fixture
def scrape(client: FlaskClient) -> Mapping[str, set[str]]:
    """Every metric with its labels, after something of each kind has happened."""
    client.post("/v1/opt-outs", headers=BEARER, json={"phone_number": NUMBER})
    client.post("/v1/opt-outs", headers=BEARER, json={"phone_number": "9995550404"})
    client.post("/v1/webhooks/shop", json={})
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a webhook source, so that its refusals are counted."""
    environment = make_environment(
        CRMTEXT_URL=settings.crmtext_url,
        CRMTEXT_RATE="1000",
        DATABASE_URL=settings.database_url.render_as_string(),
        WEBHOOK_SOURCES="[shop]\nrecipe = 'shopify'\nsecret_env = 'HOOK_SECRET'",
        HOOK_SECRET=SECRET,
    )
    return Settings.from_env(environment)


def test_the_alerts_speak_of_metrics_that_exist(scrape: Mapping[str, set[str]]) -> None:
    for rule in alert_rules():
        found = list(selectors(rule["expr"]))
        assert found, rule["alert"]
        for name, labels in found:
            assert name in scrape, rule["alert"]
            assert labels <= scrape[name], rule["alert"]
        grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
        by = {label.strip() for labels in grouped for label in labels.split(",")} - {"instance"}
        assert by <= set().union(*(scrape[name] for name, _ in found)), rule["alert"]


def test_the_first_alerts_are_of_what_waits_and_of_the_worker() -> None:
    first, second = alert_rules()[:2]
    assert "optout_oldest_pending_seconds" in first["expr"]
    assert "optout_worker_last_seen_timestamp_seconds" in second["expr"]


def test_what_to_do_about_every_alert_is_written_down() -> None:
    guide = text_of("docs/deploying.md")
    for rule in alert_rules():
        assert f"\n**{rule['alert']}.**" in guide


# --- documents


def test_every_recipe_has_its_row() -> None:
    guide = text_of("docs/webhooks.md")
    rows = [line.split("|")[1] for line in guide.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([a-z-]+)`", " ".join(rows)))
    assert set(read_recipes()) <= named


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
    delivery = Delivery(sample.read_bytes())
    headers = {**SENDERS["shopify"].headers(SECRET, delivery), "Content-Type": "application/json"}
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    (tmp_path / "delivery.http").write_bytes(f"{head}\r\n".encode() + delivery.body)
    monkeypatch.chdir(tmp_path)
    source = "[shop]\nrecipe = 'shopify'\nsecret_env = 'HOOK_SECRET'"
    printed = gateway_here(*shown[1].split(), WEBHOOK_SOURCES=source, HOOK_SECRET=SECRET)
    assert printed == Printed(0, shown[2], "")


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
