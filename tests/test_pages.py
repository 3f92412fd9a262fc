"""Every page as a reader meets it: in a browser, network off, light and dark, wide and narrow.

The book is rendered once at smoke scale into a folder of its own; the chapters' smoke runs are
those that the verdict tests use, so that nothing is executed twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from conftest import smoke_run

import chapters
import render

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

pytestmark = pytest.mark.xdist_group("pages")

WIDTHS = (390, 1400)
# Ten thousand words of code, formulas, the rows of a table and what the reference says of a
# function look alike: axe, which takes seconds for a long page, sees two of each kind
FEW_OF_EACH_KIND = """() => {
    const seen = {};
    const enough = kind => (seen[kind] = (seen[kind] ?? 0) + 1) > 2;
    for (const word of document.querySelectorAll("pre span[class]")) {
        const box = word.closest(".cell_input, .cell_output")?.className;
        if (enough([box, word.parentElement.className, word.className])) {
            word.replaceWith(...word.childNodes);
        }
    }
    for (const entry of document.querySelectorAll("dl.py, mjx-container")) {
        if (enough([entry.className, entry.parentElement.className])) entry.remove();
    }
    for (const [number, table] of document.querySelectorAll("table").entries()) {
        for (const row of table.querySelectorAll("tbody tr")) {
            const inside = [...row.querySelectorAll("[class], [style], a")];
            const looks = inside.map(one => one.tagName + one.className + one.style.cssText);
            if (enough([number, row.className, looks])) row.remove();
        }
    }
}"""
# Contrast is most of axe's work, and a colour is that of an element's ancestors, their classes and
# styles: two of each such kind remain. A formula has one colour.
TWO_OF_EACH_COLOUR = """() => {
    for (const formula of document.querySelectorAll("mjx-container")) formula.replaceChildren("x");
    const elements = [...document.body.querySelectorAll("*")];
    const numbers = new Map(), kinds = new Map(), seen = {};
    for (const one of elements) {
        const looks = [one.tagName, one.getAttribute("class"), one.getAttribute("style")];
        const kind = JSON.stringify([kinds.get(one.parentElement), ...looks]);
        if (!numbers.has(kind)) numbers.set(kind, numbers.size);
        kinds.set(one, numbers.get(kind));
    }
    for (const one of elements.reverse()) {
        if (one.childElementCount > 0) continue;
        seen[kinds.get(one)] = (seen[kinds.get(one)] ?? 0) + 1;
        if (seen[kinds.get(one)] > 2) one.remove();
    }
}"""
# without "preload" axe does not fetch the style sheets again, which file:// forbids
RULES = {"resultTypes": ["violations"], "preload": False}
CONTRAST = RULES | {"runOnly": ["color-contrast"]}
RULES |= {"runOnly": ["wcag2a", "wcag2aa"], "rules": {"color-contrast": {"enabled": False}}}


@pytest.fixture(scope="session")
def site() -> Path:
    """The book, rendered at smoke scale if anything changed; warnings are errors."""
    for slug in chapters.written():
        smoke_run(slug)
    folder = chapters.ROOT / ".cache" / "un été à Paris"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:  # workers share it: the second finds it rendered
        fcntl.flock(file, fcntl.LOCK_EX)
        assert render.render("smoke", folder) == 0, (folder / "_build" / "render.log").read_text()
    return folder / "_build"


@pytest.fixture(scope="session")
def pages(site) -> dict[str, str]:
    """The pages by their path below html/."""
    html = site / "html"
    found = [html / "search.html", *sorted((html / "book").glob("*.html"))]
    found += [html / "_modules" / "lib" / "claims.html"]  # one of many alike
    return {path.relative_to(html).as_posix(): path.read_text("utf-8") for path in found}


ATTRIBUTE = r"""\s+([\w-]+)(?:=("[^"]*"|'[^']*'|[^\s"'>]+))?"""


def attributes(page: str, *tags: str) -> list[dict[str, str]]:
    """Of each such element; a parser takes ten times as long."""
    inside = re.findall(rf"""<(?:{"|".join(tags)})((?:\s(?:"[^"]*"|'[^']*'|[^"'>])*)?)>""", page)
    return [
        {name: unescape(value.strip("\"'")) for name, value in re.findall(ATTRIBUTE, text)}
        for text in inside
    ]


def test_chapters_come_from_the_cache_and_nothing_warns(site):
    log = (site / "render.log").read_text("utf-8")
    for slug in chapters.written():
        assert re.search(rf"{slug}\.md: Using cached notebook", log)
    assert "Executed notebook" not in log
    assert "WARNING" not in log and "ERROR" not in log


def test_the_first_file_leads_to_the_landing_page(site):
    assert "url=book/index.html" in (site / "html" / "index.html").read_text("utf-8")


def test_links_inside_the_book_resolve(pages, site):
    ids = {
        name: {tag["id"] for tag in attributes(page, r"\w+") if "id" in tag}
        | {tag["name"] for tag in attributes(page, "a") if "name" in tag}
        for name, page in pages.items()
    }
    broken, followed = [], 0
    for name, page in pages.items():
        for link in attributes(page, "a", "img", "script", "link"):
            if not (address := link.get("href") or link.get("src")):
                continue
            url, anchor = urldefrag(unquote(address))
            if re.match(r"(https?|mailto|data|javascript):", url):
                continue
            followed += 1
            target = (
                (site / "html" / name).parent / url.split("?")[0] if url else site / "html" / name
            )
            if not target.is_file():
                broken.append(f"{name}: {url}")
                continue
            page_name = target.resolve().relative_to((site / "html").resolve()).as_posix()
            if anchor and page_name in ids and anchor not in ids[page_name]:
                broken.append(f"{name}: {url}#{anchor}")
    assert not broken and followed > 3000


def test_the_theme_shows_no_second_header_and_no_dead_buttons(pages):
    for name, page in pages.items():
        assert 'id="pst-header"' not in page, name
        _, header = page.split('class="article-header-buttons"')
        header, *_ = header.split('id="jb-print-docs-body"')  # the search page ends before
        buttons = " ".join(link.get("href", "") for link in attributes(header, "a"))
        assert "OWNER" not in buttons and "github.com" not in buttons, name


def test_numbers_in_sentences_are_set_as_in_a_book(pages):
    found = [re.findall(r'class="pasted-text">([^<]*)<', page) for page in pages.values()]
    glued = [text for page in found for text in page]
    assert any(one.startswith("−") for one in glued) and any("×10" in one for one in glued)
    assert not [one for one in glued if re.search(r"^-|\de[+-]\d|nan", one)]


def test_pages_load_nothing_from_elsewhere(pages):
    for name, page in pages.items():
        for tag in attributes(page, "script", "link", "img", "iframe"):
            address = tag.get("src") or tag.get("href") or ""
            assert not re.match(r"(https?:)?//", address), f"{name}: {address}"


def test_the_site_is_small(site):
    """The theme, the formulas' typesetter, eight chapters; all of MathJax would be 24 MB more."""
    size = sum(path.stat().st_size for path in (site / "html").rglob("*") if path.is_file())
    assert size < 30e6


def test_in_a_browser(browser, pages, site):
    """No error, no failed or foreign request, no overflow, no bare image, no axe finding.

    Pages that have passed and have not changed are not looked at again.
    """
    passed = site / "html" / ".passed"
    looked_with = f"{browser.version} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"
    if passed.exists() and passed.read_text("utf-8") == looked_with:
        return
    context = browser.new_context(color_scheme="light", offline=True)
    context.add_init_script("localStorage.setItem('mode', 'auto')")  # the theme is the system's
    tab = context.new_page()
    found: list[str] = []
    name, whole = "", True
    tab.on("console", lambda m: m.type == "error" and found.append(f"{name}: console: {m.text}"))
    tab.on("pageerror", lambda error: whole and found.append(f"{name}: script: {error}"))
    tab.on("requestfailed", lambda r: found.append(f"{name}: failed: {r.url[:200]}"))
    tab.on(
        "request",
        lambda r: (
            r.url.startswith(("file:", "data:", "blob:"))
            or found.append(f"{name}: asks for {r.url[:200]}")
        ),
    )

    def look(rules: dict, how: str) -> None:
        for violation in axe.Axe().run(tab, options=rules).response["violations"]:
            where = [node["target"] for node in violation["nodes"][:3]]
            found.append(f"{name}, {how}: {violation['id']}: {where}")

    for name in pages:  # the handlers say this name
        whole = True
        tab.set_viewport_size({"width": WIDTHS[-1], "height": 900})
        tab.goto((site / "html" / name).as_uri())
        tab.wait_for_load_state("load")
        tab.evaluate("() => window.MathJax?.startup?.promise")
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            over = tab.evaluate(
                "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
            )
            if over > 0:
                found.append(f"{name}: {over} px too wide at {width} px")
        bare = tab.evaluate("[...document.querySelectorAll('img:not([alt])')].map(i => i.src)")
        found += [f"{name}: no alt text: {source[:100]}" for source in bare]
        whole = False  # the page's scripts may miss what is taken away
        tab.evaluate(FEW_OF_EACH_KIND)
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            tab.wait_for_timeout(400)  # the theme makes boxes that now scroll reachable by keyboard
            look(RULES, f"{width} px")
        tab.evaluate(TWO_OF_EACH_COLOUR)
        for theme, width in zip(("dark", "light"), WIDTHS, strict=True):  # light for the next page
            tab.emulate_media(color_scheme=theme)
            tab.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
            tab.set_viewport_size({"width": width, "height": 900})
            look(CONTRAST, f"{theme}, {width} px")
    context.close()
    assert not found, "\n".join(found)
    passed.write_text(looked_with, "utf-8")
