"""The site as a person reads it, from a disk and without a network: at a desk and on a phone."""

import pytest
from built_site import build
from in_browser import IN_CHROMIUM

pytestmark = IN_CHROMIUM
PAGES = ("index", "your-model", "evidence", "failures", "reference/recipe", "reference/commands", "CONTRIBUTING")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    build(place)
    return place


@pytest.mark.parametrize("width", [1400, 400])
def test_pages_fit_and_the_search_finds(site, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in PAGES:
        page.goto(f"file://{site}/{name}.html")
        assert page.locator("h1").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    if width < 1000:
        page.click("label.md-header__button[for=__search]")
    page.click("input.md-search__input")
    page.wait_for_timeout(500)  # the field opens
    page.keyboard.type("saturate", delay=30)
    found = page.locator(".md-search-result__item a").first
    found.wait_for(timeout=30_000)
    found.click()
    page.wait_for_load_state()
    assert "saturate" in page.locator("article").inner_text()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not errors
