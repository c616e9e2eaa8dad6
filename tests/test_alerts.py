"""The alerts of docs/alerts.yml: that they fire, end, name what exists, and say what to do."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from gateway.assembly import open_ledger
from gateway.ledger.webhook_messages import WebhookMessages
from gateway.settings import Settings
from tests.support.documents import anchors, text_of
from tests.support.factories import BEARER, NUMBER, ROOT, make_environment
from tests.support.signing import SECRET


def alert_rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(text_of("docs/alerts.yml"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of a PromQL expression, each with the labels that it is narrowed by."""
    unquoted = re.sub('"[^"]*"', '""', expression)
    for name, labels in re.findall(r"\b(optouts|[a-z]+_[a-z_]+)\b(?!\()(?:{(.*?)})?", unquoted):
        yield name, set(re.findall(r"(\w+)=", labels))


@pytest.fixture
def scrape(client: FlaskClient, settings: Settings) -> Mapping[str, set[str]]:
    """Every metric with its labels, after something of each kind has happened."""
    client.post("/v1/opt-outs", headers=BEARER, json={"phone_number": NUMBER})
    client.post("/v1/opt-outs", headers=BEARER, json={"phone_number": "9995550404"})
    client.post("/v1/webhooks/shop", json={})
    messages = WebhookMessages(open_ledger(settings).engine)
    messages.count("shop", "missing_signature")
    messages.flush()  # the gateway's own are written a second later
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


def test_the_alerts_use_metrics_that_exist(scrape: Mapping[str, set[str]]) -> None:
    for rule in alert_rules():
        found = list(selectors(rule["expr"]))
        assert found, rule["alert"]
        for name, labels in found:
            assert name in scrape, rule["alert"]
            assert labels <= scrape[name], rule["alert"]
        grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
        by = {label.strip() for labels in grouped for label in labels.split(",")} - {"instance"}
        assert by <= set().union(*(scrape[name] for name, _ in found)), rule["alert"]


def test_the_first_alerts_are_about_waiting_opt_outs_and_the_worker() -> None:
    first, second = alert_rules()[:2]
    assert "optout_oldest_pending_seconds" in first["expr"]
    assert "optout_worker_last_seen_timestamp_seconds" in second["expr"]


def test_each_alert_leads_to_its_own_section_of_the_guide() -> None:
    links = [rule["annotations"]["runbook_url"] for rule in alert_rules()]
    assert links == [f"docs/deploying.md#{rule['alert'].lower()}" for rule in alert_rules()]
    assert {link.partition("#")[2] for link in links} <= anchors(ROOT / "docs/deploying.md")


def test_each_alert_says_whom_it_wakes() -> None:
    assert {rule["labels"]["severity"] for rule in alert_rules()} == {"page", "ticket"}


# --- what Prometheus makes of them


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None and "CI" not in os.environ:
        pytest.skip("promtool is not installed; it comes with Debian's prometheus")
    assert program, "CI has to have promtool"
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_prometheus_accepts_the_rules() -> None:
    promtool("check", "rules", "docs/alerts.yml")


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_ends() -> None:
    promtool("test", "rules", "tests/alerts_test.yml")


def test_each_alert_is_seen_firing() -> None:
    cases = yaml.safe_load(text_of("tests/alerts_test.yml"))["tests"]
    checks = [check for case in cases for check in case.get("alert_rule_test", [])]
    fired = {check["alertname"] for check in checks if check["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alert_rules()}
