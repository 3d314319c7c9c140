"""The site: it builds without a warning, fetches nothing, and its reference has every setting, command and field."""

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from built_site import build
from pages import PAGES, ROOT, commands

FETCHING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site")
    build(place)
    return place


class Fetched(HTMLParser):
    """What a browser fetches of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if FETCHING.get(tag) == name and value]


def text(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_nothing_is_fetched_from_elsewhere_and_every_file_is_there(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        reading = Fetched()
        reading.feed(page.read_text())
        for address in reading.addresses:
            assert "//" not in address, f"{page.name} fetches {address}"
            if page.name != "404.html":  # is shown at any address
                assert (page.parent / address.split("?")[0]).exists(), f"{page.name} fetches {address}"
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", styles)


def test_every_setting_of_a_recipe_is_there(site):
    from flows.recipe import Recipe

    page = text(site / "reference" / "recipe.html")

    def look(model, path):
        for name, field in model.model_fields.items():
            dotted = f"{path}.{field.alias or name}".strip(".")
            if hasattr(field.annotation, "model_fields"):
                look(field.annotation, dotted)
            else:
                assert re.search(rf"^{re.escape(dotted)}$", page, re.MULTILINE), dotted
                assert field.description.replace("`", "") in page, dotted

    look(Recipe, "")
    assert "0.0005" in page, "a default of one place: distill and prune have others"


def test_every_command_that_a_page_names_has_its_help_with_its_options(site):
    page = text(site / "reference" / "commands.html")
    parts = re.split(r"^slimline ([a-z-]+)¶$", page, flags=re.MULTILINE)
    helps = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert {"run", "check", "schema"} <= set(helps)
    called = [words for source in PAGES for words in commands(source, "slimline")]
    assert len(called) > 20
    for name, *words in called:
        assert name in helps, f"slimline {name}"
        for word in words:
            if word.startswith("--"):
                assert word in helps[name], f"slimline {name} {word}"


def test_every_field_of_the_evidence_has_a_meaning_and_every_number_a_unit(site):
    from tasks.evidence.evidence import Evidence

    page = (site / "reference" / "evidence.html").read_text()
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    rows = [row for row in rows if row]
    schema = Evidence.model_json_schema()
    fields = [name for model in (schema, *schema["$defs"].values()) for name in model["properties"]]
    shown = [re.search(r"<code>(\w+)</code>", row[0]).group(1) for row in rows]
    assert sorted(shown) == sorted(fields)
    assert all(len(row) == 4 and row[3].strip() for row in rows)
    units = {name: row[2] for name, row in zip(shown, rows, strict=True)}
    assert units["size_bytes"] == "bytes"
    assert units["p95"] == "seconds"
    assert units["sha256"] == ""


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path):
    """As strict as it says: a page that is added beside the others has one."""
    settings = (ROOT / "mkdocs.yml").read_text()
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "index.md").write_text("[nothing](nowhere.md)\n")
    settings = settings.replace("docs/hooks/", f"{ROOT}/docs/hooks/").split("\nnot_in_nav:")[0]
    (tmp_path / "mkdocs.yml").write_text(
        re.sub(r"hooks:\n(  - .*\n)+", f"hooks: [{ROOT}/docs/hooks/repository.py]\n", settings)
    )
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
