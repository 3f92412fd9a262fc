"""One style for every figure of the book, animations, tables, and elements to step and play."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import HTML, Image
from matplotlib.colors import ListedColormap
from matplotlib.transforms import blended_transform_factory
from numpy.typing import ArrayLike
from PIL import Image as Picture

from lib.wording import typeset

# Okabe and Ito (2008): told apart with any kind of colour vision; yellow is left out, it is too
# pale on white. Dashes and markers repeat what the colour says.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "#dde2e7"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE = {
    "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=DASHES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.labelsize": 11,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "figure.facecolor": "white",  # also in dark mode: a figure is a sheet of paper
    "figure.figsize": (6.4, 3.8),
    "font.size": 11,
    "grid.alpha": 0.25,
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
}

TRACE = ("tape", "step", "pc", "head0", "head1", "place", "value", "end")
STEPPER_INSTRUCTIONS, STEPPER_BYTES = 3000, 150_000  # what one page element may weigh
GAME_INTENSITIES, GAME_BYTES = np.arange(1, 11), 60_000
DILEMMA_LESSONS = 21  # before the first lesson, and after each of twenty
HEARD = ("label", "audio", "truth", "said", "words", "spectrogram", "found")
LISTENING_BYTES, LISTENING_SECONDS = 300_000, 15
QUIZ = ("look", "screen", "next", "choices", "truth", "said")
QUIZ_STAGES = ("its look", "its screen", "where it leads")
QUIZ_BYTES = 300_000


def use_style() -> None:
    """Switch matplotlib to the style of the book; call it once, before the first figure."""
    mpl.rcParams.update(STYLE)
    if "inline" in plt.get_backend():
        plt.switch_backend(plt.get_backend())
        plt.uninstall_repl_displayhook()  # it would draw each figure once before it is shown


def animation(
    draw: Callable[[plt.Figure, int], None],
    frames: Sequence[int],
    *,
    alt: str,
    seconds_per_frame: float = 0.4,
    figsize: tuple[float, float] = (6.4, 3.8),
) -> Image:
    """Draw one frame after another and return them as an animated GIF.

    `draw(figure, frame)` fills an empty figure; the last frame stays three times as long. Axes stay
    where the first frame has them. A GIF needs no script and no server, so that it moves in the
    built page and in a notebook alike.

    Raises ValueError if there are no frames or the alternative text is empty.
    """
    if not len(frames) or not alt.strip():
        raise ValueError(f"animation needs frames and an alt text, got {len(frames)} and {alt!r}")
    pictures, places = [], []
    for frame in frames:
        figure = plt.figure(figsize=figsize, dpi=90)
        draw(figure, frame)
        # laid out once; but a title of the whole figure has its place from the layout
        if len(places) == len(figure.axes) and not figure.get_suptitle():
            figure.set_layout_engine("none")
            for ax, place in zip(figure.axes, places, strict=True):
                ax.set_position(place)
        figure.canvas.draw()
        places = [ax.get_position(original=True) for ax in figure.axes]
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        pictures.append(
            Picture.fromarray(pixels).convert("P", palette=Picture.Palette.ADAPTIVE, colors=64)
        )
        plt.close(figure)
    times = [int(1000 * seconds_per_frame)] * len(pictures)
    times[-1] *= 3
    file = io.BytesIO()
    pictures[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        optimize=True,
    )
    return Image(data=file.getvalue(), format="gif", alt=alt)


def pixels(
    draw: Callable[[plt.Axes], None], *, figsize: tuple[float, float], dpi: int = 100
) -> np.ndarray:
    """What `draw(ax)` draws, as a picture (height, width, 3) of numbers 0 .. 1."""
    figure = plt.figure(figsize=figsize, dpi=dpi)
    draw(figure.add_subplot())
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    plt.close(figure)
    return picture


def table(head: Sequence[str], rows: Sequence[Sequence], *, caption: str) -> HTML:
    """A table of results; None is shown as a dash, a float with three significant digits.

    Raises ValueError if a row is not as long as the head.
    """
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"table row {row!r} has {len(row)} cells, the head has {len(head)}")

    def cell(value) -> str:
        text = "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
        return html.escape(typeset(text))

    top = "".join(f"<th scope='col'>{cell(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row) + "</tr>" for row in rows)
    if not rows:
        body = f"<tr><td colspan='{len(head)}'>nothing of this is measured at this scale</td></tr>"
    return HTML(
        "<div class='results-box' tabindex='0' role='region' aria-label='Table of results'>"
        f"<table class='results'><caption><span>{html.escape(caption)}</span></caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def spacetime(
    ax: plt.Axes,
    columns: Mapping[str, ArrayLike],
    *,
    symbols: Sequence[str],
    limit: int | None = None,
) -> None:
    """Draw a program at work: the cells of the tape from left to right, time downwards.

    `columns` and `symbols` are those of `stepper`; of the instructions only the first `limit` are
    drawn. Cells that hold an instruction are grey.

    Raises ValueError if `columns` is not the trace of a tape of 128 bytes or `limit` is below 1.
    """
    trace = _first(columns, limit)
    t = len(trace["pc"])
    cells, held = trace["tape"].copy(), np.empty((t, 128), bool)
    code = np.array([bool(symbol) for symbol in symbols])
    for i, (place, value) in enumerate(zip(trace["place"], trace["value"], strict=True)):
        held[i] = code[cells]
        if place >= 0:
            cells[place] = value
    ax.imshow(
        held,
        cmap=ListedColormap(["white", GREY]),
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, 127.5, t + 0.5, 0.5),
    )
    now = np.arange(1, t + 1)
    size = float(np.clip(900 / t, 1.0, 4.5))
    written = trace["place"] >= 0
    points = {"ls": "none", "mew": 0}
    ax.plot(trace["pc"], now, "k.", ms=size, label="instruction pointer", **points)
    for n, dash in enumerate(["-", (0, (4, 1.5))]):
        head = trace[f"head{n}"]
        # a head that leaves one end of the tape comes back at the other: no line between the two
        path = np.where(np.abs(np.diff(head, prepend=head[0])) > 1, np.nan, head)
        ax.plot(path, now, color=COLORS[n], ls=dash, lw=1.7, label=f"head {n}", zorder=3)
    place, time = trace["place"][written], now[written]
    ax.plot(place, time, "s", color="#66c2a5", ms=size + 2.4, label="byte written", **points)
    ax.fill_between([], [], [], color=GREY, label="holds an instruction")
    ax.axvline(63.5, color="k", lw=0.8, ls="-")
    ax.set(xlim=(-0.5, 127.5), ylim=(t + 0.5, 0.5), ylabel="instructions executed, time runs down")
    ax.set_xticks([0, 16, 32, 48, 64, 80, 96, 112, 127])
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.spines[["top", "right"]].set_visible(True)
    ax.grid(False)
    above = blended_transform_factory(ax.transData, ax.transAxes)
    for middle, name in [(31.5, "first"), (95.5, "second")]:
        place = {"transform": above, "ha": "center", "va": "bottom"}
        ax.text(middle, 1.09, f"cells of the {name} program", **place)
    legend = ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=3,
        fontsize=10,
        handlelength=1.4,
        labelspacing=0.3,
    )
    for line in legend.get_lines():
        line.set_markersize(6)


def stepper(
    columns: Mapping[str, ArrayLike],
    *,
    symbols: Sequence[str],
    words: Mapping[str, str | Sequence[str]],
    alt: str,
    caption: str,
    limit: int | None = None,
) -> HTML:
    """A machine to step forwards and backwards through what two programs do to their tape.

    `columns` holds the trace: `tape`, the 128 bytes before the first instruction; for each
    instruction `step`, `pc`, `head0` and `head1` before it, the `place` that it writes or −1, and
    the new `value` there; `end`, the step, pc and heads after the last one. `symbols` says for each
    of the 256 bytes what it is as an instruction, or ""; `words` what an instruction does, as a
    sentence without its subject, in which `{head0}` and `{head1}` are the places of the heads
    before and `{to0}` and `{to1}` after it, or two sentences: one if the program goes on behind
    the instruction, one if it jumps. Only the first `limit` instructions are kept.

    Where scripts do not run (a notebook, a printed page) readers see the picture of `spacetime`;
    `alt` describes it. In the book, stepper.js adds the tape and its buttons.

    Raises ValueError if `columns` is not the trace of a tape of 128 bytes; if `limit` is below 1 or
    leaves more than 3,000 instructions or 150 kB; if `symbols` are not 256; if an instruction of
    `symbols` is not in `words`; or if `alt` is empty.
    """
    trace = _first(columns, limit)
    t = len(trace["pc"])
    if t > STEPPER_INSTRUCTIONS:
        raise ValueError(f"limit={limit} leaves {t} instructions: at most {STEPPER_INSTRUCTIONS}")
    if len(symbols) != 256:
        raise ValueError(f"symbols has {len(symbols)} entries: one for each of the 256 bytes")
    missing = sorted({symbol for symbol in symbols if symbol} - words.keys())
    if missing:
        raise ValueError(f"words does not say what these do: {' '.join(missing)}")
    if not alt.strip():
        raise ValueError(f"alt={alt!r}: the picture needs an alternative text")
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(6.4, 4.9), dpi=160)
        spacetime(ax, trace, symbols=symbols)
        picture = _png(figure)
        box = ax.get_position()
        plt.close(figure)
    data = {name: trace[name].tolist() for name in TRACE} | {
        "symbols": list(symbols),
        "words": {s: [w] if isinstance(w, str) else list(w) for s, w in words.items()},
        "cut": t < len(np.asarray(columns["pc"])),
        # where the picture has its axes, in parts of its width and height: left, top, right, bottom
        "axes": [round(float(v), 4) for v in (box.x0, 1 - box.y1, box.x1, 1 - box.y0)],
    }
    text = _element("stepper", picture, data, alt=alt, caption=caption)
    return _light(text, STEPPER_BYTES, f"limit={limit} leaves")


def choice_game(
    curves: Mapping[str, Mapping[str, Mapping]],
    *,
    levels: ArrayLike,
    alt: str,
    caption: str,
) -> HTML:
    """The game of points against pain or pleasure, for the reader to play beside the models.

    `curves` holds, for "pain" and for "pleasure", the same models: of each the `share` of its
    answers that were 3 at intensities 1 to 10 (None where there were none); the fitted `curve` of
    that share at the `levels`, or None if the share is the same everywhere, so that none can be
    fitted; and the `switch` point, where the curve crosses one half, or None.

    Where scripts do not run (a notebook, a printed page) readers see the curves as a picture; `alt`
    describes it. In the book, game.js adds the questions, their buttons and the comparison.

    Raises ValueError if `levels` do not rise between 1 and 10; if the experiments are others, have
    no models or different ones; if a model lacks one of the three, a share or curve is too short,
    too long or leaves 0 to 1, a switch point is not finite, or a model without a curve has shares
    that vary or a switch point; if `alt` is empty; or if all of it weighs more than 60 kB.
    """
    x = np.asarray(levels, float)
    if x.ndim != 1 or len(x) < 2 or not (np.diff(x) > 0).all() or x[0] < 1 or x[-1] > 10:
        raise ValueError(f"levels={levels!r} must be two or more that rise between 1 and 10")
    if sorted(curves) != ["pain", "pleasure"]:
        raise ValueError(f"curves has {sorted(curves)}: wanted 'pain' and 'pleasure'")
    names = list(curves["pain"])
    if not names or sorted(names) != sorted(curves["pleasure"]):
        raise ValueError(
            f"curves has models {names} for pain and {list(curves['pleasure'])} for pleasure: "
            "wanted the same, at least one"
        )
    if not alt.strip():
        raise ValueError(f"alt={alt!r}: the picture needs an alternative text")
    data = {
        "levels": [round(float(level), 3) for level in x],
        "models": names,
        **{
            experiment: [
                _choices(f"curves[{experiment!r}][{name!r}]", curves[experiment][name], len(x))
                for name in names
            ]
            for experiment in ("pain", "pleasure")
        },
    }
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(6.4, 4.7), dpi=140, sharey=True)
        for ax, experiment in zip(axes, ("pain", "pleasure"), strict=True):
            _draw_choices(ax, data, experiment)
        axes[0].set_ylabel("share of answers that are 3")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=3.2)
        # as they are: else the rare ones are mixed, and a line is not what its legend says
        picture = _png(figure, method=Picture.Quantize.MAXCOVERAGE, kmeans=4)
        plt.close(figure)
    text = _element("game", picture, data, alt=alt, caption=caption)
    return _light(text, GAME_BYTES, f"levels has {len(x)} entries, which with the caption makes")


def listening(
    known: Mapping[str, ArrayLike], heard: Sequence[Mapping], *, rate: int, caption: str
) -> HTML:
    """Recordings to hear, a guess which song each is, and what a recogniser said.

    `known` holds the sound of songs by name, -1 .. 1, `rate` samples a second. Each of `heard` has
    a `label`, the `audio`, the `truth`, which is a name of `known` or None, what was `said`, a name
    or None, in a sentence the `words` for it, the `spectrogram` (frames, bands) of what was heard,
    and that of the place `found` in a song, or None.

    Where scripts do not run (a notebook, a printed page) there are players, and the answers to be
    unfolded. In the book, listening.js asks for a guess first, and keeps the score.

    Raises ValueError if there are no songs or nothing was heard; if an entry lacks one of these, or
    names a song that is not in `known`; if a sound is not one channel of at most 15 s of finite
    numbers, or a spectrogram not two-dimensional and finite; if `caption` is empty; or if all of it
    weighs more than 300 kB.
    """
    if not known or not heard or not caption.strip():
        raise ValueError(
            f"listening needs songs, sounds and a caption, got {len(known)}, {len(heard)} and "
            f"{caption!r}"
        )
    songs = [_clip("", f"Song {name}", known[name], rate) for name in known]
    sounds = [_sound(number, one, list(known), rate) for number, one in enumerate(heard, 1)]
    names = html.escape(json.dumps(list(known)), quote=True)
    text = (
        f"<div class='listening' data-names=\"{names}\"><figure>"
        "<p class='listening-title'>On file</p>"
        f"<div class='listening-songs'>{''.join(songs)}</div>"
        "<p class='listening-title'>Heard</p>"
        f"<div class='listening-sounds'>{''.join(sounds)}</div>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure></div>"
    )
    advice = "; use fewer or shorter sounds"
    return _light(text, LISTENING_BYTES, "known and heard make", advice)


def dilemma_game(
    players: Mapping[str, Mapping[str, ArrayLike]],
    *,
    payoff: ArrayLike,
    alt: str,
    caption: str,
) -> HTML:
    """Twenty rounds of a prisoner's dilemma against policies that remember one round.

    `players` holds policies by name: the probabilities that one `cooperates` (5,), in the first
    round and after CC, CD, DC and DD, its own action first; and what becomes of a naive learner
    who meets it, before each of its first lessons 0 to 20: the return of the player itself, `own`
    (21,), that of the `learner` (21,), and the probabilities that the learner cooperates, `policy`
    (21, 5). `payoff` is that of CC, CD, DC and DD.

    Where scripts do not run (a notebook, a printed page) readers see both returns as a picture;
    `alt` describes it. In the book, dilemma.js adds the buttons, and after every ten rounds
    compares the reader with the learner.

    Raises ValueError if there are no players; if one lacks one of the four, or it has another
    shape, is not finite, or leaves 0 to 1 as a probability; if `payoff` is not four numbers; if
    `alt` is empty; or if all of it weighs more than 60 kB.
    """
    if not players or not alt.strip():
        raise ValueError(f"players has {len(players)} and alt is {alt!r}: wanted some, and a text")
    if np.shape(payoff) != (4,) or not np.isfinite(payoff).all():
        raise ValueError(f"payoff={payoff!r} must be four numbers: for CC, CD, DC and DD")
    data = {
        "payoff": [float(one) for one in np.asarray(payoff)],
        "players": [{"name": name} | _player(name, one) for name, one in players.items()],
    }
    with mpl.rc_context(STYLE):
        size = (6.4, 3.2)
        figure, axes = plt.subplots(
            1, len(players), figsize=size, dpi=140, sharey=True, squeeze=False
        )
        for ax, one in zip(axes[0], data["players"], strict=True):
            ax.plot(one["learner"]["own"], label="it")
            ax.plot(one["learner"]["other"], label="the learner")
            ax.set(title=one["name"], xlabel="lesson")
        axes[0, 0].set_ylabel("average return")
        axes[0, 0].legend()
        picture = _png(figure)
        plt.close(figure)
    text = _element("dilemma", picture, data, alt=alt, caption=caption)
    return _light(text, GAME_BYTES, "players with the caption make", "; use fewer")


def _player(name: str, one: Mapping[str, ArrayLike]) -> dict:
    """One policy and the learner who meets it, checked and rounded."""
    wanted = {
        "cooperates": (5,),
        "own": (DILEMMA_LESSONS,),
        "learner": (DILEMMA_LESSONS,),
        "policy": (DILEMMA_LESSONS, 5),
    }
    for part, shape in wanted.items():
        if part not in one:
            raise ValueError(f"players[{name!r}] has no {part}: wanted {', '.join(wanted)}")
        values = np.asarray(one[part], float)
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(
                f"players[{name!r}][{part!r}] has shape {values.shape}: wanted {shape}, all finite"
            )
        if part in ("cooperates", "policy") and not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"players[{name!r}][{part!r}] leaves 0 to 1: wanted probabilities")
    found = {part: np.round(np.asarray(one[part], float), 4).tolist() for part in wanted}
    learner = {"own": found["own"], "other": found["learner"], "policy": found["policy"]}
    return {"cooperates": found["cooperates"], "learner": learner}


def _sound(number: int, one: Mapping, names: list[str], rate: int) -> str:
    """One sound that was heard, with the answer to be unfolded."""
    where = f"heard[{number - 1}]"
    missing = [name for name in HEARD if name not in one]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}: wanted {', '.join(HEARD)}")
    for name in ("truth", "said"):
        if one[name] is not None and one[name] not in names:
            raise ValueError(f"{where}[{name!r}] is {one[name]!r}: use None or one of {names}")
    player = _clip(str(number), one["label"], one["audio"], rate)
    pictures = _spectrogram(f"{where}['spectrogram']", one["spectrogram"], "What was heard")
    if one["found"] is not None:
        title = f"The place in song {one['said']} that was found"
        pictures += _spectrogram(f"{where}['found']", one["found"], title)
    data = f"data-truth='{one['truth'] or ''}' data-said='{one['said'] or ''}'"
    return (
        f"<div class='listening-sound' {data}>{player}<details>"
        f"<summary>What the recogniser said about sound {number}</summary>"
        f"<p>{html.escape(one['words'])}</p>{pictures}</details></div>"
    )


def _clip(number: str, label: str, audio: ArrayLike, rate: int) -> str:
    """A player for one sound, which comes with it as MP3."""
    import soundfile  # loads a library of the system's, which only this needs

    x = np.asarray(audio, float)
    if x.ndim != 1 or not 0 < len(x) <= LISTENING_SECONDS * rate or not np.isfinite(x).all():
        raise ValueError(
            f"the sound {label!r} has shape {x.shape}: wanted one channel of finite numbers, at "
            f"most {LISTENING_SECONDS} s of {rate} samples"
        )
    file = io.BytesIO()
    soundfile.write(file, np.clip(x, -1, 1), rate, format="MP3", compression_level=0.8)
    sound = base64.b64encode(file.getvalue()).decode()
    title = f"<b>{number}</b> {html.escape(label)}"
    return (
        f"<div class='listening-clip'><span>{title}</span>"
        f"<audio controls preload='metadata' aria-label='{html.escape(label, quote=True)}'"
        f" src='data:audio/mpeg;base64,{sound}'></audio></div>"
    )


def _spectrogram(where: str, values: ArrayLike, title: str) -> str:
    """A spectrogram as a picture as wide as the page, low bands below."""
    x = np.asarray(values, float)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"{where} has shape {x.shape}: wanted (frames, bands) of finite numbers")
    low, high = np.quantile(x, (0.05, 0.999))
    level = np.clip((x.T[::-1] - low) / max(high - low, 1e-9), 0, 1)
    picture = Picture.fromarray(np.uint8(15 * level), "P")
    colours = mpl.colormaps["cividis"](np.linspace(0, 1, 16))[:, :3]
    picture.putpalette(np.uint8(255 * colours).ravel().tolist())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, bits=4)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f"<p class='listening-what'>{html.escape(title)}</p><div class='listening-picture'>"
        f"<img src='data:image/png;base64,{data}' alt='Spectrogram. {html.escape(title)}.'"
        " style='width:100%;height:96px'></div>"
    )


def icon_quiz(rounds: Sequence[Mapping], *, caption: str) -> HTML:
    """Icons whose function is to be guessed: from the look, from the screen, from where they lead.

    Each of `rounds` has the `look` of an icon, the `screen` on which it stands (and is marked), the
    `next` screen, to which a click leads, as pictures (height, width) or (height, width, 3) of
    numbers 0 .. 1; the `choices`, names of functions; the `truth`, which is one of them; and what
    models have `said`, three of them, each of which sees no more than the reader at that time.

    Where scripts do not run (a notebook, a printed page) the screens and the answers are to be
    unfolded. In the book, icons.js asks for a guess each time, and keeps the score.

    Raises ValueError if there are no rounds; if one lacks one of the six, has a picture of another
    shape or range, fewer than two choices or one twice, or a truth or an answer that is none of the
    choices; if `caption` is empty; or if all of it weighs more than 300 kB.
    """
    if not rounds or not caption.strip():
        raise ValueError(
            f"rounds has {len(rounds)} and caption is {caption!r}: wanted some of each"
        )
    shown = "".join(_round(number, one) for number, one in enumerate(rounds, 1))
    text = (
        f"<div class='icons'><figure><div class='icons-rounds'>{shown}</div>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure></div>"
    )
    return _light(text, QUIZ_BYTES, f"{len(rounds)} rounds make", "; use fewer or smaller pictures")


def _round(number: int, one: Mapping) -> str:
    """One icon, with its screens and the answer to be unfolded."""
    where = f"rounds[{number - 1}]"
    if missing := [name for name in QUIZ if name not in one]:
        raise ValueError(f"{where} has no {', '.join(missing)}: wanted {', '.join(QUIZ)}")
    choices, truth, said = list(one["choices"]), one["truth"], list(one["said"])
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise ValueError(f"{where} has the choices {choices}: wanted two or more, each once")
    if len(said) != len(QUIZ_STAGES) or not {truth, *said} <= set(choices):
        raise ValueError(
            f"{where} has the truth {truth!r} and says {said}: wanted one and three of {choices}"
        )
    look = _picture(f"{where}['look']", one["look"], f"Icon {number}", "icons-look")
    screen, after = (
        _picture(f"{where}[{name!r}]", one[name], f"{title} of icon {number}", "icons-screen")
        for name, title in (("screen", "The screen"), ("next", "The next screen"))
    )
    steps = zip(QUIZ_STAGES, said, strict=True)
    models = ", ".join(f"from {stage} \u201c{answer}\u201d" for stage, answer in steps)
    words = html.escape(f"It is \u201c{truth}\u201d. Models say {models}.")
    data = html.escape(json.dumps({"choices": choices, "truth": truth, "said": said}), quote=True)
    return (
        f'<div class="icons-round" data-round="{data}"><p class="icons-title">Icon {number}</p>'
        f"{look}<details><summary>The screen of icon {number}</summary>{screen}</details>"
        f"<details><summary>Where icon {number} leads</summary>{after}</details>"
        f"<details><summary>What icon {number} is for</summary><p>{words}</p></details>"
        "</div>"
    )


def _picture(where: str, values: ArrayLike, alt: str, kind: str) -> str:
    """A picture of numbers 0 .. 1, grey or in colours, as a PNG of 32 colours."""
    x = np.asarray(values, float)
    shaped = x.ndim == 2 or (x.ndim == 3 and x.shape[2] == 3)
    if not shaped or not x.size or not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
        raise ValueError(
            f"{where} has shape {x.shape}: wanted a picture (height, width) or (height, width, 3) "
            "of numbers 0 .. 1"
        )
    if x.ndim == 2:
        x = np.repeat(x[..., None], 3, 2)
    file = io.BytesIO()
    Picture.fromarray(np.uint8(255 * x + 0.5)).quantize(32).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    size = f"width='{x.shape[1]}' height='{x.shape[0]}'"
    return f"<img class='{kind}' src='data:image/png;base64,{data}' {size} alt='{alt}'>"


def _first(columns: Mapping[str, ArrayLike], limit: int | None) -> dict[str, np.ndarray]:
    """The first `limit` instructions of a trace, checked; `end` is the state behind them."""
    missing = [name for name in TRACE if name not in columns]
    if missing:
        raise ValueError(f"columns has no {', '.join(missing)}: wanted {', '.join(TRACE)}")
    trace = {name: np.asarray(columns[name]).astype(np.int64) for name in TRACE}
    t = len(trace["pc"])
    for name, array in trace.items():
        wanted = {"tape": 128, "end": 4}.get(name, t)
        if array.shape != (wanted,) or not wanted:
            raise ValueError(f"columns[{name!r}] has shape {list(array.shape)}: wanted [{wanted}]")
    for name, low, high in [
        ("tape", 0, 255),
        ("value", 0, 255),
        ("pc", 0, 127),
        ("head0", 0, 127),
        ("head1", 0, 127),
        ("place", -1, 127),
    ]:
        if trace[name].min() < low or trace[name].max() > high:
            raise ValueError(f"columns[{name!r}] leaves the range from {low} to {high}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: wanted 1 or more instructions")
    if limit is None or limit >= t:
        return trace
    end = np.array([trace[name][limit] for name in ("step", "pc", "head0", "head1")])
    kept = {name: trace[name][:limit] for name in TRACE[1:-1]}
    return {"tape": trace["tape"], "end": end} | kept


def _choices(where: str, model: Mapping, points: int) -> dict[str, list | float | None]:
    """One model in one experiment, checked and rounded; `where` names it in a complaint."""
    missing = [name for name in ("share", "curve", "switch") if name not in model]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}: wanted share, curve, switch")
    share, curve, switch = model["share"], model["curve"], model["switch"]
    for name, values, wanted in [("share", share, len(GAME_INTENSITIES)), ("curve", curve, points)]:
        if name == "curve" and values is None:
            continue
        if np.shape(values) != (wanted,):
            raise ValueError(f"{where}[{name!r}] has shape {np.shape(values)}: wanted ({wanted},)")
        # written so that nan, too, is outside
        wrong = [v for v in values if v is not None and not 0 <= v <= 1]
        if wrong or (name == "curve" and None in list(values)):
            raise ValueError(f"{where}[{name!r}] has {[*wrong, None][0]}: wanted between 0 and 1")
    if switch is not None and not np.isfinite(switch):
        raise ValueError(f"{where}['switch'] is {switch}: wanted a finite number or None")
    known = {float(value) for value in share if value is not None}
    if curve is None and (len(known) > 1 or switch is not None):
        raise ValueError(f"{where} has no curve, so its share must not vary and its switch be None")
    if curve is not None and not known:
        raise ValueError(f"{where} has a curve but no share: wanted the data that it was fitted to")
    return {
        "share": [None if value is None else round(float(value), 4) for value in share],
        "curve": None if curve is None else [round(float(value), 3) for value in curve],
        "switch": None if switch is None else round(float(switch), 2),
    }


def _draw_choices(ax: plt.Axes, data: Mapping, experiment: str) -> None:
    """The shares of all models in one experiment as markers, their curves as lines."""
    models = data[experiment]
    for i, (name, model) in enumerate(zip(data["models"], models, strict=True)):
        share = np.array(model["share"], float)
        curve, x, width = model["curve"], data["levels"], 1.6
        if curve is None:  # no data at all: nan, which draws nothing but keeps the legend whole
            curve, x = [*share[~np.isnan(share)], np.nan][:1] * 2, [1, 10]
            # lines that lie on each other: the lower ones are wider, so that they show
            width += 2.0 * sum(other == model for other in models[i + 1 :])
        turn = i // len(COLORS)  # from the second turn on, a colour has another dash and marker
        dash, marker = (kind[(i + turn) % len(kind)] for kind in (DASHES, MARKERS))
        style = {"color": COLORS[i % len(COLORS)], "marker": marker, "mew": 0}
        ax.plot(x, curve, color=style["color"], ls=dash, lw=width)
        ax.plot(GAME_INTENSITIES, share, ls="none", ms=4.5, **style)
        ax.plot([], [], ls=dash, lw=1.6, ms=5.5, label=name, **style)
    option = {"pain": 3, "pleasure": 2}[experiment]
    ax.set(title=f"{option} brings {experiment}", xlabel="intensity", ylim=(-0.04, 1.04))
    ax.set_xticks(GAME_INTENSITIES)


def _png(figure: plt.Figure, **palette) -> str:
    """The figure as a small PNG of 32 colours, in base64; how to choose them is in `palette`."""
    figure.canvas.draw()
    file = io.BytesIO()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    Picture.fromarray(pixels).quantize(32, **palette).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _element(kind: str, picture: str, data: Mapping, *, alt: str, caption: str) -> str:
    """A picture for pages without scripts, and the data of the script that works on the element."""
    script = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f"<div class='{kind}'><figure>"
        f"<img src='data:image/png;base64,{picture}' alt='{html.escape(alt)}'"
        " style='max-width:100%;height:auto' width='704'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        f"<script type='application/json'>{script}</script></div>"
    )


def _light(text: str, most: int, cause: str, advice: str = "") -> HTML:
    """A page element, unless it weighs more than so many bytes; a complaint begins with `cause`."""
    size = len(text.encode())
    if size > most:
        raise ValueError(f"{cause} {size} bytes of HTML: at most {most}{advice}")
    return HTML(text)
