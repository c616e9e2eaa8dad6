"""The page at /docs in a real browser: it reads, it authorises, it opts out, it stays at home."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.factories import DEMO_KEY, make_environment, serve, sha256
from tests.support.fake_crmtext import FakeCrmText

# A browser has errands of its own, which are none of the page's.
_QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
]


@dataclass
class Visit:
    """A browser's page, and what it did and complained of."""

    page: Page
    home: str
    addresses: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None and os.environ.get("CI"):
        pytest.fail("there is no chromium, which the page is checked with")
    if found is None:
        pytest.skip("there is no chromium, which the page is checked with")
    return found


@pytest.fixture
def visit(
    chromium: str, crmtext: FakeCrmText, database_url: str, tmp_path: Path
) -> Iterator[Visit]:
    environment = make_environment(
        CRMTEXT_URL=crmtext.url,
        DATABASE_URL=database_url,
        GATEWAY_API_KEYS=f"demo:{sha256(DEMO_KEY)}",
        WEB_CONCURRENCY="1",
    )
    with serve(environment, tmp_path) as gateway, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_QUIET)
        visit = Visit(browser.new_page(viewport={"width": 1200, "height": 1600}), gateway.url)
        visit.watch()
        yield visit
        browser.close()


@pytest.mark.browser
def test_a_reader_authorises_and_opts_a_number_out_without_leaving_the_gateway(
    visit: Visit, crmtext: FakeCrmText
) -> None:
    page = visit.page
    page.goto(f"{visit.home}/docs")
    expect(page.locator(".title")).to_contain_text("CRM Text opt-out gateway")

    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill(DEMO_KEY)
    page.locator(".auth-btn-wrapper .authorize").click()
    page.locator(".auth-btn-wrapper .btn-done").click()

    page.reload()  # the key is kept
    expect(page.locator(".info")).to_contain_text("The life of an opt-out")
    operation = page.locator("#operations-Opt-outs-createOptOut")
    operation.locator(".opblock-summary-control").click()
    operation.locator("textarea").fill('{"phone_number": "9995551234"}')
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text('"status": "opted_out"')

    assert [call.phone_number for call in crmtext.calls] == ["9995551234"]
    elsewhere = [one for one in visit.addresses if not one.startswith((visit.home, "data:"))]
    assert elsewhere == []
    assert visit.complaints == []


@pytest.mark.browser
def test_on_a_phone_a_drawing_scrolls_within_the_page_and_shows_that_it_does(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.page.goto(f"{visit.home}/docs")
    drawing = visit.page.locator(".info .renderedMarkdown pre").first
    expect(drawing).to_contain_text("pending")

    assert drawing.evaluate("one => one.scrollWidth > one.clientWidth")
    expect(drawing).to_have_css("background-attachment", "local, local, scroll, scroll, scroll")
    assert visit.complaints == []


def test_the_pages_files_are_kept_by_browsers_and_nothing_else_is_served(
    client: FlaskClient,
) -> None:
    address = "/docs/swagger-ui-bundle.js"
    with client.get(address) as first:
        kept = {"If-None-Match": first.headers["ETag"]}
        assert first.headers["Cache-Control"] == "public, max-age=86400"
        assert first.mimetype == "text/javascript"
    with client.get(address, headers=kept) as again:
        assert (again.status_code, again.data) == (304, b"")
    others = ["/docs/index.html", "/docs/oauth2-redirect.html", "/docs/VERSION", "/docs/.."]
    assert [client.get(other).status_code for other in others] == [404] * 4


def test_only_the_page_may_run_scripts(client: FlaskClient) -> None:
    assert "default-src 'self'" in client.get("/docs").headers["Content-Security-Policy"]
    assert "default-src 'self'" in client.get("/docs/").headers["Content-Security-Policy"]
    assert "unsafe-inline" not in client.get("/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'" in client.get("/healthz").headers["Content-Security-Policy"]
    assert "<script>" not in client.get("/docs").get_data(as_text=True)
