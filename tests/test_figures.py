"""Figures that are more than a picture: the machine that steps through two programs at work."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib import figures
from lib.life import WORDS, disassemble, language, trace

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
LIMIT = 300  # the copy is complete after 256 instructions
BFF = language("bff_noheads")


def palindrome_and_food():
    """The replicator of Fig. 4 and 64 random bytes, at work."""
    program = np.frombuffer(b"[[{.>]-]" + b" " * 48 + b"]-]>.{[[", np.uint8)
    food = np.random.default_rng(0).integers(0, 256, 64, dtype=np.uint8)
    return trace(np.concatenate([program, food]), BFF, steps=4000)


RUN = palindrome_and_food()


def stepper(columns=None, **changes):
    wanted = {"symbols": BFF.symbols, "words": WORDS, "limit": LIMIT}
    wanted |= {"alt": "a < b", "caption": "c"}
    return figures.stepper(columns or RUN._asdict(), **wanted | changes)


def recorded(shown) -> dict:
    """The trace that a page element brings."""
    return json.loads(re.search("json'>(.*)</script>", shown.data)[1])


@pytest.fixture(scope="module")
def shown():
    return stepper()


def test_the_element_brings_the_trace_and_a_described_picture(shown):
    data = recorded(shown)
    assert data["pc"] == RUN.pc[:LIMIT].tolist() and data["cut"]
    assert data["end"] == [RUN.step[LIMIT], RUN.pc[LIMIT], RUN.head0[LIMIT], RUN.head1[LIMIT]]
    assert "alt='a &lt; b'" in shown.data and "src='data:image/png;base64," in shown.data
    assert len(shown.data) < 60_000
    assert not plt.get_fignums()


def test_a_program_that_ends_is_not_cut():
    tape = np.zeros(128, np.uint8)
    tape[[0, 3]] = [ord(">"), ord("]")]
    short = trace(tape, BFF)
    assert short.end.tolist() == [128, 128, 1, 0]
    data = recorded(stepper(short._asdict()))
    assert data["end"] == [128, 128, 1, 0] and data["step"] == [0, 3] and not data["cut"]


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"alt": " "}, "alt="),
        ({"limit": 0}, "limit=0"),
        ({"limit": None}, "limit=None leaves 4000"),
        ({"symbols": BFF.symbols[1:]}, "symbols has 255"),
        ({"words": {}}, "words does not say"),
        ({"caption": "c" * 150_000}, "bytes of HTML"),
        ({"columns": {"tape": RUN.tape}}, "columns has no step, pc"),
        ({"columns": RUN._asdict() | {"tape": RUN.tape[1:]}}, "columns\\['tape'\\]"),
        ({"columns": RUN._asdict() | {"value": RUN.value[1:]}}, "columns\\['value'\\]"),
        ({"columns": RUN._asdict() | {"head1": RUN.head1 + 1}}, "columns\\['head1'\\] leaves"),
    ],
)
def test_bad_input_is_named(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        stepper(**changes)


def test_the_spacetime_picture_stands_alone():
    figure, ax = plt.subplots()
    figures.spacetime(ax, RUN._asdict(), symbols=BFF.symbols, limit=50)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["head 0"].get_xdata().tolist() == RUN.head0[:50].tolist()
    written = RUN.place[:50][RUN.place[:50] >= 0]
    assert lines["byte written"].get_xdata().tolist() == written.tolist()
    plt.close(figure)


@pytest.fixture(scope="module")
def page(shown, tmp_path_factory) -> str:
    """The address of a small page with the element twice, as a chapter may have it."""
    folder = tmp_path_factory.mktemp("une page")
    for name in ("book.css", "stepper.js"):
        shutil.copy(STATIC / name, folder)
    (folder / "page.html").write_text(
        "<!doctype html><html lang='en' data-theme='light'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>A page</title>"
        "<link rel='stylesheet' href='book.css'><script src='stepper.js'></script>"
        "<style>body { font: 16px/1.6 sans-serif } main { max-width: 800px; margin: auto }"
        "html[data-theme=dark] body { background: #14181e; color: #ced6dd }</style></head>"
        f"<body><main class='bd-article'><h1>A page</h1>{shown.data * 2}</main></body></html>",
        "utf-8",
    )
    return (folder / "page.html").as_uri()


def tape(tab) -> list[int]:
    """The bytes that the first machine of the page shows."""
    cells = "document.querySelector('.stepper-tape').querySelectorAll('.stepper-cell')"
    return [int(byte) for byte in tab.evaluate(f"[...{cells}].map(cell => cell.dataset.byte)")]


def marked(tab, kind: str) -> list[int]:
    """The cells of the first machine that wear a mark."""
    cells = "document.querySelector('.stepper-tape').querySelectorAll('.stepper-cell')"
    inside = f"cell.classList.contains('{kind}')"
    return tab.evaluate(f"[...{cells}].flatMap((cell, n) => {inside} ? [n] : [])")


def test_in_a_browser(browser, page):
    """Exact both ways, by button and by key, quiet while it plays, clean for axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900})
    tab = context.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: message.type == "error" and errors.append(message.text))
    tab.goto(page)
    first = tab.locator(".stepper").first
    press = {name: first.get_by_role("button", name=name) for name in ("Back", "Forward", "Play")}
    slider, said = first.get_by_role("slider"), first.locator(".stepper-words")
    assert tab.locator(".stepper-machine").count() == 2
    assert tape(tab) == RUN.tape.tolist()

    for t in range(1, 13):
        press["Forward"].click()
        assert tape(tab) == RUN.after(t).tolist()
        assert marked(tab, "at") == [RUN.pc[t - 1]]
        assert marked(tab, "head0") == [RUN.head0[t]] and marked(tab, "head1") == [RUN.head1[t]]
    assert marked(tab, "written") == [125]
    assert said.inner_text().startswith(
        "Step 12: . in cell 3 copies the byte under head 0 (cell 2) to head 1 (cell 125): {"
    )
    for _ in range(12):
        press["Back"].click()
    assert tape(tab) == RUN.tape.tolist()

    slider.focus()
    tab.keyboard.press("End")
    assert tape(tab) == RUN.after(LIMIT).tolist()
    assert "recording stops here" in said.inner_text()
    aria = first.locator(".stepper-row").nth(1).get_attribute("aria-label")
    assert aria.endswith(disassemble(RUN.after(LIMIT)[64:], BFF))
    for _ in range(70):
        tab.keyboard.press("ArrowLeft")
    assert tape(tab) == RUN.after(LIMIT - 70).tolist()
    tab.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == f"{LIMIT - 69} of {LIMIT}"
    tab.keyboard.press("Home")
    assert tape(tab) == RUN.tape.tolist() and marked(tab, "at") == []

    assert said.get_attribute("aria-live") == "polite"
    tab.keyboard.press(" ")
    assert said.get_attribute("aria-live") == "off"
    tab.wait_for_function("document.querySelector('.stepper input').value > 3")
    tab.keyboard.press(" ")
    assert said.get_attribute("aria-live") == "polite"
    t = int(slider.input_value())
    assert tape(tab) == RUN.after(t).tolist()
    press["Play"].focus()
    tab.keyboard.press(" ")  # the button's own
    assert said.get_attribute("aria-live") == "off"
    tab.keyboard.press("Home")
    slider.evaluate("it => { it.value = 256; it.dispatchEvent(new Event('input')) }")
    assert bytes(tape(tab)[64:]) == RUN.tape[63::-1].tobytes(), "the copy runs backwards"

    rules = {"runOnly": ["wcag2a", "wcag2aa"], "resultTypes": ["violations"], "preload": False}
    for theme in ("light", "dark"):
        tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        for width in (1400, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            over = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
            assert tab.evaluate(over) <= 0, width
            found = axe.Axe().run(tab, options=rules).response["violations"]
            found = [(it["id"], [node["target"] for node in it["nodes"][:3]]) for it in found]
            assert not found, (theme, width)
    assert not errors
    context.close()


def test_without_scripts_the_picture_is_there(browser, page):
    context = browser.new_context(java_script_enabled=False, offline=True)
    tab = context.new_page()
    tab.goto(page)
    picture = tab.get_by_role("img", name="a < b").first
    assert picture.is_visible() and picture.bounding_box()["width"] > 300
    assert tab.get_by_role("button").count() == 0
    context.close()
