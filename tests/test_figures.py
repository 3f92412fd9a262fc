"""Figures that are more than a picture: two programs step by step, a game, songs to hear."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from scipy.special import expit

from lib import figures
from lib.life import WORDS, disassemble, language, trace
from lib.tradeoffs.counts import paper_counts
from lib.tradeoffs.game import Trial, render

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
SCRIPTS = [f"{name}.js" for name in "elements stepper game listening dilemma icons".split()]
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


def write_page(folder: Path, element: str) -> str:
    """The address of a small page with an element twice, as a chapter may have it."""
    for name in ("book.css", *SCRIPTS):
        shutil.copy(STATIC / name, folder)
    scripts = "".join(f"<script src='{name}'></script>" for name in SCRIPTS)
    (folder / "page.html").write_text(
        "<!doctype html><html lang='en' data-theme='light'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>A page</title>"
        f"<link rel='stylesheet' href='book.css'>{scripts}"
        "<style>body { font: 16px/1.6 sans-serif } main { max-width: 800px; margin: auto }"
        "html[data-theme=dark] body { background: #14181e; color: #ced6dd }</style></head>"
        f"<body><main class='bd-article'><h1>A page</h1>{element * 2}</main></body></html>",
        "utf-8",
    )
    return (folder / "page.html").as_uri()


def visit(browser, address: str, width: int = 1400):
    """A tab without a network that has opened a page, and what its scripts complain of."""
    context = browser.new_context(offline=True, viewport={"width": width, "height": 900})
    tab, errors = context.new_page(), []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: message.type == "error" and errors.append(message.text))
    tab.goto(address)
    return context, tab, errors


@pytest.fixture(scope="module")
def page(shown, tmp_path_factory) -> str:
    return write_page(tmp_path_factory.mktemp("une page"), shown.data)


def complaints(tab, axe) -> list:
    """What axe finds, and what is too wide, in light and dark, wide and narrow."""
    rules = {"runOnly": ["wcag2a", "wcag2aa"], "resultTypes": ["violations"], "preload": False}
    over = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    all_found = []
    for theme in ("light", "dark"):
        tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        for width in (1400, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            if tab.evaluate(over) > 0:
                all_found.append((theme, width, "is too wide"))
            if (theme, width) in (("light", 390), ("dark", 1400)):
                continue  # a colour does not depend on the width, nor a name on the theme
            for it in axe.Axe().run(tab, options=rules).response["violations"]:
                targets = [node["target"] for node in it["nodes"][:3]]
                all_found.append((theme, width, it["id"], targets))
    return all_found


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
    context, tab, errors = visit(browser, page)
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

    assert not complaints(tab, axe)
    assert not errors
    context.close()


@pytest.mark.parametrize("element", ["page", "game_page"])
def test_without_scripts_the_picture_is_there(browser, element, request):
    context = browser.new_context(java_script_enabled=False, offline=True)
    tab = context.new_page()
    tab.goto(request.getfixturevalue(element))
    picture = tab.get_by_role("img", name="a < b").first
    assert picture.is_visible() and picture.bounding_box()["width"] > 300
    assert tab.get_by_role("button").count() == 0
    context.close()


LEVELS = np.linspace(1, 10, 37)


def paper_curves() -> dict[str, dict[str, dict]]:
    """The paper's shares; any curve will do where they vary."""
    counts = paper_counts().only(scale="quantitative")
    curves = {"pain": {}, "pleasure": {}}
    for condition, chose, valid, varies in zip(*counts, counts.varies, strict=True):
        curves[condition.experiment][condition.model] = {
            "share": (chose / valid).tolist(),
            "curve": expit(4.25 - LEVELS).tolist() if varies else None,
            "switch": 4.25 if varies else None,
        }
    return curves


CURVES = paper_curves()
MODELS = list(CURVES["pain"])


def choice_game(curves=CURVES, **changes):
    wanted = {"levels": LEVELS, "alt": "a < b", "caption": "c"}
    return figures.choice_game(curves, **wanted | changes)


def changed(model: str, **fields) -> dict:
    """The curves with other fields for one model in the pain experiment."""
    pain = CURVES["pain"] | {model: CURVES["pain"][model] | fields}
    return CURVES | {"pain": pain}


@pytest.fixture(scope="module")
def game():
    return choice_game()


def test_the_game_brings_the_shares_and_a_described_picture(game):
    data = recorded(game)
    assert data["models"] == MODELS and len(MODELS) == 9
    for experiment in ("pain", "pleasure"):
        shares = [CURVES[experiment][name]["share"] for name in MODELS]
        brought = [model["share"] for model in data[experiment]]
        np.testing.assert_allclose(brought, shares, atol=5e-5)
    assert "alt='a &lt; b'" in game.data and "src='data:image/png;base64," in game.data
    assert len(game.data.encode()) <= 60_000
    assert not plt.get_fignums()


def test_a_model_may_lack_answers():
    share = [None] * 9 + [0.5]
    data = recorded(choice_game(changed("PaLM 2", share=share)))
    assert data["pain"][MODELS.index("PaLM 2")] == {"share": share, "curve": None, "switch": None}
    choice_game(changed("PaLM 2", share=[None] * 10))


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"alt": " "}, "alt="),
        ({"levels": LEVELS[::-1]}, "levels="),
        ({"levels": [1.0]}, "levels="),
        ({"levels": [1.0, 10.5]}, "levels="),
        ({"levels": [1.0, float("nan")]}, "levels="),
        ({"levels": LEVELS[1:]}, r"\['curve'\] has shape \(37,\): wanted \(36,\)"),
        ({"caption": "c" * 60_000}, "bytes of HTML"),
        ({"curves": {"pain": CURVES["pain"]}}, "wanted 'pain' and 'pleasure'"),
        ({"curves": {"pain": {}, "pleasure": {}}}, "at least one"),
        ({"curves": CURVES | {"pain": {"GPT-4o": CURVES["pain"]["GPT-4o"]}}}, "has models"),
        ({"curves": CURVES | {"pain": dict.fromkeys(MODELS, {"share": []})}}, "no curve, switch"),
        ({"curves": changed("PaLM 2", share=[0.0] * 9)}, r"\['share'\] has shape \(9,\)"),
        ({"curves": changed("PaLM 2", share=[0.0] * 9 + [1.5])}, "has 1.5: wanted between"),
        ({"curves": changed("PaLM 2", share=[0.0] * 9 + [float("nan")])}, "has nan"),
        ({"curves": changed("PaLM 2", share=[0.0] * 9 + [1.0])}, "share must not vary"),
        ({"curves": changed("PaLM 2", switch=3.0)}, "its switch be None"),
        ({"curves": changed("GPT-4o", switch=float("inf"))}, "is inf: wanted a finite"),
        ({"curves": changed("GPT-4o", curve=[None] * 37)}, "has None"),
        ({"curves": changed("GPT-4o", share=[None] * 10)}, "a curve but no share"),
    ],
)
def test_bad_input_of_the_game_is_named(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        choice_game(**changes)


@pytest.fixture(scope="module")
def game_page(game, tmp_path_factory) -> str:
    return write_page(tmp_path_factory.mktemp("un jeu"), game.data)


class Player:
    """Somebody who plays the first game of a page."""

    def __init__(self, tab):
        self.tab, self.box = tab, tab.locator(".game").first
        self.said, self.status = self.box.locator(".game-words"), self.box.locator(".game-status")
        self.option = self.box.locator(".game-options button")

    def question(self) -> str:
        return self.box.locator(".game-question").inner_text()

    def level(self) -> int:
        return int(self.box.locator(".game-question strong").inner_text().split()[-1])

    def play(self, choices: str) -> str:
        """A whole game by key, with this choice at each intensity; what is said afterwards."""
        if self.box.locator(".game-again").is_enabled():
            self.box.locator(".game-again").click()
        self.option.first.focus()
        for _ in range(10):
            self.tab.keyboard.press(choices[self.level() - 1])
        return self.said.inner_text()

    def play_at_once(self, choices: str) -> str:
        """The same inside the browser, since each key takes its time to get there."""
        self.box.evaluate(AT_ONCE, choices)
        return self.said.inner_text()


AT_ONCE = """(box, choices) => {
    const again = box.querySelector(".game-again");
    if (!again.disabled) again.click();
    for (let round = 0; round < 10; round++) {
        const level = Number(box.querySelector(".game-question strong").textContent.match(/\\d+$/));
        box.querySelectorAll(".game-options button")[choices[level - 1] - 1].click();
    }
}"""


def test_the_game_in_a_browser(browser, game_page):
    """Asks what our harness asks, counts, compares as numpy does, clean for axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    context, tab, errors = visit(browser, game_page)
    requests = []
    tab.on("request", lambda request: requests.append(request.url))
    player = Player(tab)
    assert tab.locator(".game-machine").count() == 2
    tab.keyboard.press("3")  # the focus is elsewhere
    assert player.status.inner_text().startswith("Round 1 of 10, points so far: 0.")
    assert not complaints(tab, axe)

    for experiment in ("pain", "pleasure"):
        player.box.locator(f"input[value={experiment}]").check()
        trials = [Trial(experiment, "quantitative", level) for level in range(1, 11)]
        wanted = {level: render(t)[0]["content"] for level, t in enumerate(trials, 1)}
        seen = {}
        for played in range(10):
            assert f"Round {played + 1} of 10, points so far: {2 * played}." in (
                player.status.inner_text()
            )
            seen[player.level()] = player.question()
            player.option.nth(1).click()
        assert seen.keys() == wanted.keys()
        for level, text in seen.items():
            assert wanted[level].startswith(text) and "reply" in wanted[level][len(text) :]
        assert player.status.inner_text() == "All 10 rounds played. Points: 20 of 30."
    assert tab.evaluate("document.activeElement.textContent") == "Start again"
    player.box.locator("input[value=pain]").check()
    assert player.status.inner_text().startswith("All 10"), "the other game is kept"

    for choices, words in [
        ("3333322222", "You gave up points from intensity 6 on: your switch point lies between 5"),
        ("3333311212", "You gave up points from intensity 6 on: your switch point lies between 5"),
        ("3323322222", "from intensity 6 on, with 1 choice that did not fit: "),
        ("3332322222", "from some intensity between 4 and 6 on, with 1 choice that did not fit"),
        ("3333333323", "You have no switch point"),
        ("2222233333", "You gave up points at low intensities rather than at high ones."),
        ("2222222222", "You always gave up points."),
        ("3333333333", "You never gave up a point."),
    ]:
        play = player.play if choices == "3323322222" else player.play_at_once
        assert words in play(choices), choices

    rng = np.random.default_rng(0)
    shares = np.array([CURVES["pain"][name]["share"] for name in MODELS])
    for choices in ["3322222222", *("".join(row) for row in rng.choice([*"123"], (3, 10)))]:
        player.play_at_once(choices)
        gaps = np.abs((np.array([*choices]) == "3") - shares)
        rows = player.box.locator(".game-models button")
        shown = [re.search(r"([\d.]+) of 10 differ", text)[1] for text in rows.all_inner_texts()]
        np.testing.assert_allclose(np.array(shown, float), gaps.sum(1), atol=0.0501)
        squares = (gaps**2).sum(1)
        nearest = [n for n, s in zip(MODELS, squares, strict=True) if s < squares.min() + 1e-9]
        strong = player.said.locator("strong").inner_text()
        assert [name for name in MODELS if f"{name} (" in strong] == nearest
        assert player.box.locator(".game-models .nearest").count() == len(nearest)
        circles = player.box.locator(".game-own circle")
        high = circles.evaluate_all("all => all.map(one => Number(one.getAttribute('cy')))")
        assert [y == min(high) for y in high] == [c == "3" for c in choices] or "3" not in choices

    player.box.locator(".game-models button").nth(3).focus()
    assert player.box.locator(".game-names").text_content() == MODELS[3]
    player.box.locator("summary").click()
    assert player.box.get_by_role("img", name="a < b").is_visible()
    assert not complaints(tab, axe)
    stored = "localStorage.length + sessionStorage.length + document.cookie.length"
    assert not errors and not requests and tab.evaluate(stored) == 0
    context.close()


# Songs to hear -----------------------------------------------------------------------------------

RATE = 8000
SWEEP = 0.3 * np.sin(2 * np.pi * 400 * np.arange(2 * RATE) ** 2 / RATE**2 / 4).astype(np.float32)
BANDS = np.add.outer(np.arange(60.0), np.arange(64.0))
SOUND = {
    "label": "in a <bus>",
    "audio": SWEEP,
    "truth": "B",
    "said": "B",
    "words": "Song B, from 1.0 s on.",
    "spectrogram": BANDS,
    "found": BANDS,
}
STRANGER = SOUND | {"truth": None, "said": "A", "words": "Song A.", "label": "by telephone"}


def listening(**changes):
    wanted = {"known": {"A": SWEEP, "B": SWEEP[::-1]}, "heard": [SOUND, STRANGER]}
    return figures.listening(**(wanted | {"rate": RATE, "caption": "c & d"} | changes))


@pytest.fixture(scope="module")
def listening_page(tmp_path_factory) -> str:
    return write_page(tmp_path_factory.mktemp("écouter"), listening().data)


def test_sounds_and_pictures_are_those_that_were_given():
    text = listening().data
    assert "in a &lt;bus&gt;" in text and "c &amp; d" in text
    sounds = re.findall(r"data:audio/mpeg;base64,([^']+)'", text)
    assert len(sounds) == 4
    soundfile = pytest.importorskip("soundfile")
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[2])))
    assert rate == RATE and abs(len(heard) - len(SWEEP)) < 3000
    lags = np.correlate(heard, SWEEP, "full")
    likeness = lags.max() / np.linalg.norm(heard) / np.linalg.norm(SWEEP)
    assert likeness > 0.95
    pictures = re.findall(r"data:image/png;base64,([^']+)'", text)
    shown = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    assert shown.shape == (64, 60)
    assert (np.diff(shown.astype(int), axis=1) >= 0).all(), "time runs to the right"
    assert (np.diff(shown.astype(int), axis=0) <= 0).all(), "high bands are above"
    assert len(text) < 60_000


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"known": {}}, "got 0, 2 and"),
        ({"heard": []}, "got 2, 0 and"),
        ({"caption": " "}, "a caption, got 2, 2 and ' '"),
        ({"heard": [{"label": "x"}]}, r"heard\[0\] has no audio, truth, said"),
        ({"heard": [SOUND | {"truth": "Z"}]}, r"heard\[0\]\['truth'\] is 'Z': use None or one of"),
        ({"heard": [SOUND, SOUND | {"said": "Z"}]}, r"heard\[1\]\['said'\] is 'Z'"),
        (
            {"known": {"A": SWEEP, "B": np.full_like(SWEEP, np.nan)}},
            "'Song B' has shape .16000,.: wanted one",
        ),
        ({"known": {"A": SWEEP, "B": np.stack([SWEEP] * 2)}}, r"shape \(2, 16000\)"),
        ({"rate": 1000}, "at most 15 s of 1000 samples"),
        ({"heard": [SOUND | {"spectrogram": BANDS[0]}]}, r"\['spectrogram'\] has shape \(64,\)"),
        (
            {"heard": [SOUND | {"found": np.full_like(BANDS, np.inf)}]},
            r"\['found'\] has shape \(60, 64\)",
        ),
        ({"heard": [SOUND] * 90}, "at most 300000; use fewer or shorter sounds"),
    ],
)
def test_bad_input_of_sounds_is_named(changes, complaint):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=complaint):
        listening(**changes)


def test_listening_in_a_browser(browser, listening_page):
    """By keyboard: a guess before each answer, the score of both, a line that moves."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    context, tab, errors = visit(browser, listening_page)
    box = tab.locator(".listening").first
    sounds, score = box.locator(".listening-sound"), box.locator(".listening-score")
    assert score.inner_text() == "Play the sounds, and guess."
    assert not box.locator("details").first.is_visible()
    assert not complaints(tab, axe)

    options = sounds.nth(0).locator("button")
    assert options.all_inner_texts() == ["song A", "song B", "none of these"]
    options.nth(0).focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert sounds.nth(0).locator(".listening-answer").inner_text() == "Right: it was song B."
    assert sounds.nth(0).get_by_text("Song B, from 1.0 s on.").is_visible()
    assert score.inner_text() == "Right so far: you 1 of 1, the recogniser 1 of 1."
    options.nth(0).click(force=True)  # too late
    assert score.inner_text() == "Right so far: you 1 of 1, the recogniser 1 of 1."
    sounds.nth(1).locator("button").nth(1).focus()
    tab.keyboard.press("Space")
    answer = sounds.nth(1).locator(".listening-answer").inner_text()
    assert answer == "No: it was a song that is not on file."
    assert score.inner_text() == "Right so far: you 1 of 2, the recogniser 1 of 2."
    assert not complaints(tab, axe)

    tab.evaluate("document.querySelectorAll('audio')[2].currentTime = 1")
    line = sounds.nth(0).locator(".listening-now").first
    line.wait_for()
    assert 40 < float(line.evaluate("one => parseFloat(one.style.left)")) < 60

    box.locator(".listening-again").click()
    assert score.inner_text() == "Play the sounds, and guess."
    assert not box.locator("details").first.is_visible() and not errors
    context.close()


def test_without_scripts_the_sounds_and_their_answers_are_there(browser, listening_page):
    context = browser.new_context(java_script_enabled=False, offline=True)
    tab = context.new_page()
    tab.goto(listening_page)
    assert tab.get_by_role("button").count() == 0
    assert tab.locator("audio").first.is_visible()
    tab.locator("summary").first.click()
    assert tab.get_by_text("Song B, from 1.0 s on.").first.is_visible()
    context.close()


LESSONS = np.linspace(0, 1, 21)
GIVES_BACK = {"cooperates": [1, 1, 0, 1, 0], "own": LESSONS, "learner": -LESSONS}
GIVES_BACK |= {"policy": np.tile(LESSONS[:, None], 5)}
NEVER = GIVES_BACK | {"cooperates": [0] * 5}


def dilemma_game(**changes):
    wanted = {"players": {"tit-for-<tat>": GIVES_BACK, "a wall": NEVER}, "payoff": [1, -1, 2, 0]}
    return figures.dilemma_game(**(wanted | {"alt": "two lines", "caption": "c & d"} | changes))


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"players": {}}, "players has 0 and alt is 'two lines'"),
        ({"alt": " "}, "players has 2 and alt is ' '"),
        ({"payoff": [1, 2, 3]}, r"payoff=\[1, 2, 3\] must be four numbers"),
        ({"players": {"x": {"cooperates": [1] * 5}}}, r"players\['x'\] has no own: wanted"),
        (
            {"players": {"x": GIVES_BACK | {"own": [1, 2]}}},
            r"players\['x'\]\['own'\] has shape \(2,\): wanted \(21,\)",
        ),
        ({"players": {"x": GIVES_BACK | {"own": np.full(21, np.nan)}}}, "all finite"),
        ({"players": {"x": GIVES_BACK | {"cooperates": [2] * 5}}}, "leaves 0 to 1"),
        ({"caption": "c" * 60_000}, "at most 60000; use fewer"),
    ],
)
def test_bad_input_of_a_dilemma_is_named(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        dilemma_game(**changes)


def test_a_dilemma_in_a_browser(browser, tmp_path):
    """By keyboard: the other remembers one round, and after ten and twenty there is a learner."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    context, tab, errors = visit(browser, write_page(tmp_path, dilemma_game().data), width=390)
    box = tab.locator(".dilemma").first
    status, result = box.locator(".dilemma-status"), box.locator(".dilemma-result")
    rounds = box.locator(".dilemma-rounds tr")
    assert "Both cooperate: +1 for each. One defects: +2 for it" in status.inner_text()
    box.get_by_role("button", name="Cooperate").focus()
    tab.keyboard.press("c")
    assert status.inner_text().startswith("Round 1: you cooperated, it cooperated: +1 for you")
    tab.keyboard.press("d")
    assert "you defected, it cooperated: +2 for you, −1 for it" in status.inner_text()
    tab.keyboard.press("Enter")  # the focus is on Cooperate
    assert "you cooperated, it defected: −1 for you, +2 for it" in status.inner_text()
    assert status.inner_text().endswith("Together +2 and +2.")
    assert rounds.nth(0).locator("td").all_inner_texts()[:4] == ["C", "D", "C", "·"]
    assert not result.inner_text()
    for _ in range(7):
        tab.keyboard.press("c")
    # of ten rounds: 2 + 2 points in three, then one each; one of nine times it gave back
    you = result.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert you == ["+0.90", "+0.90", "1.00", "0.86", "1.00", "1.00", "–"]
    head = result.locator("thead th").all_inner_texts()
    assert head == ["You", "A naive learner after 10 lessons"]
    learner = result.locator("tbody tr td:nth-child(3)").all_inner_texts()
    assert learner == ["−0.50", "+0.50", *["0.50"] * 5]
    assert not complaints(tab, axe)
    for _ in range(12):  # two of them too late
        tab.keyboard.press("d")
    assert status.inner_text().startswith("Round 20: ") and "over" in status.inner_text()
    assert result.locator("thead th").nth(2).inner_text() == "tit-for-<tat>"
    wide = tab.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390 and not complaints(tab, axe)
    box.locator("select").select_option("a wall")
    assert not result.inner_text()
    box.get_by_role("button", name="Cooperate").click()
    assert "it defected" in status.inner_text() and not errors
    context.close()


def test_without_scripts_a_dilemma_is_a_picture(browser, tmp_path):
    context = browser.new_context(java_script_enabled=False, offline=True)
    tab = context.new_page()
    tab.goto(write_page(tmp_path, dilemma_game().data))
    assert tab.get_by_role("button").count() == 0
    picture = tab.get_by_role("img", name="two lines").first
    assert picture.is_visible() and picture.evaluate("one => one.naturalWidth") > 400
    context.close()


LOOK = np.arange(256).reshape(16, 16) / 255
SCREENS = np.zeros((30, 20, 3)), np.linspace(0, 1, 600).reshape(30, 20)
ICON = dict(zip(("look", "screen", "next"), (LOOK, *SCREENS), strict=True))
ICON |= {"choices": ["home", "store", "<b>"], "truth": "home", "said": ["store", "<b>", "home"]}


def icon_quiz(**changes):
    rounds = [ICON, ICON | {"truth": "<b>"}]
    return figures.icon_quiz(**({"rounds": rounds, "caption": "c & d"} | changes))


@pytest.fixture(scope="module")
def icons_page(tmp_path_factory) -> str:
    return write_page(tmp_path_factory.mktemp("icônes"), icon_quiz().data)


def test_a_drawing_becomes_a_picture():
    before = plt.get_fignums()
    found = figures.pixels(lambda ax: ax.set_facecolor("red"), figsize=(2, 1), dpi=50)
    assert found.shape == (50, 100, 3) and found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found[25, 50], [1, 0, 0], atol=0.01)
    assert plt.get_fignums() == before


def test_pictures_of_icons_are_those_that_were_given():
    text = icon_quiz().data
    assert "c &amp; d" in text and "<b>" not in text
    pictures = re.findall(r"data:image/png;base64,([^']+)'", text)
    sizes = [PIL.Image.open(io.BytesIO(base64.b64decode(one))) for one in pictures[:3]]
    assert [one.size for one in sizes] == [(16, 16), (20, 30), (20, 30)]
    grey = np.asarray(sizes[0].convert("L"))
    np.testing.assert_allclose(grey / 255, LOOK, atol=0.05)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"rounds": []}, "rounds has 0 and"),
        ({"caption": " "}, "rounds has 2 and caption is ' '"),
        ({"rounds": [{"look": LOOK}]}, r"rounds\[0\] has no screen, next, choices, truth, said"),
        ({"rounds": [ICON | {"look": LOOK[0]}]}, r"rounds\[0\]\['look'\] has shape \(16,\)"),
        ({"rounds": [ICON, ICON | {"next": 2 + LOOK}]}, r"rounds\[1\]\['next'\] has shape"),
        ({"rounds": [ICON | {"screen": LOOK * np.nan}]}, r"\['screen'\] has shape"),
        ({"rounds": [ICON | {"choices": ["home"]}]}, r"has the choices \['home'\]: wanted two"),
        ({"rounds": [ICON | {"choices": ["a", "a"]}]}, "each once"),
        ({"rounds": [ICON | {"truth": "x"}]}, "has the truth 'x' and says"),
        ({"rounds": [ICON | {"said": ["home"]}]}, r"says \['home'\]: wanted one and three"),
        ({"rounds": [ICON] * 300}, "300 rounds make .* at most 300000; use fewer"),
    ],
)
def test_bad_input_of_icons_is_named(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        icon_quiz(**changes)


def test_icons_in_a_browser(browser, icons_page):
    """By keyboard: a guess before each picture, the score of both at each stage."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    context, tab, errors = visit(browser, icons_page)
    box = tab.locator(".icons").first
    status, cells = box.locator(".icons-status"), box.locator(".icons-score td")
    options, screens = box.locator(".icons-buttons button"), box.locator(".icons-screen")
    assert status.inner_text() == "Icon 1 of 2. What is it for? Guess from its look."
    assert options.all_inner_texts() == ["home", "store", "<b>"]
    assert box.locator(".icons-look").nth(0).is_visible()
    assert not box.locator(".icons-look").nth(1).is_visible()
    assert not screens.nth(0).is_visible() and not complaints(tab, axe)

    options.nth(0).focus()
    tab.keyboard.press("Enter")
    assert screens.nth(0).is_visible() and not screens.nth(1).is_visible()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")  # the second choice
    assert screens.nth(1).is_visible() and not complaints(tab, axe)
    tab.keyboard.press("Enter")
    told = "from its look you “home”, a model “store”; from its screen you “store”, a model “<b>”"
    assert status.inner_text().startswith(f"It is “home”. You said: {told}")
    right = ["1 of 1", "0 of 1", "0 of 1", "0 of 1", "1 of 1", "1 of 1"]
    assert cells.all_inner_texts() == right and options.count() == 0

    tab.keyboard.press("Enter")  # the next icon
    assert status.inner_text().startswith("Icon 2 of 2.")
    assert box.locator(".icons-look").nth(1).is_visible() and not screens.nth(2).is_visible()
    for _ in range(3):
        options.nth(2).click()
    assert cells.all_inner_texts()[2:4] == ["1 of 2", "1 of 2"]
    assert not complaints(tab, axe)
    tab.keyboard.press("Enter")  # start again
    assert cells.all_inner_texts() == ["–"] * 6 and not errors
    context.close()


def test_without_scripts_icons_and_answers_are_there(browser, icons_page):
    context = browser.new_context(java_script_enabled=False, offline=True)
    tab = context.new_page()
    tab.goto(icons_page)
    assert tab.get_by_role("button").count() == 0
    assert tab.locator(".icons-look").nth(1).is_visible()
    for summary in tab.locator("summary").all()[:3]:
        summary.click()
    assert tab.locator(".icons-screen").nth(1).is_visible()
    assert tab.get_by_text("from its screen “<b>”, from where it leads “home”").first.is_visible()
    context.close()
