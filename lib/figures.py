"""One style for every figure of the book, and short animations as image files."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import HTML, Image
from PIL import Image as Picture

# Okabe and Ito (2008): told apart with any kind of colour vision; yellow is left out, it is too
# pale on white. Dashes and markers repeat what the colour says.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
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


def use_style() -> None:
    """Switch matplotlib to the style of the book; call it once, before the first figure."""
    mpl.rcParams.update(STYLE)


def animation(
    draw: Callable[[plt.Figure, int], None],
    frames: Sequence[int],
    *,
    alt: str,
    seconds_per_frame: float = 0.4,
    figsize: tuple[float, float] = (6.4, 3.8),
) -> Image:
    """Draw one frame after another and return them as an animated GIF.

    `draw(figure, frame)` fills an empty figure; the last frame stays three times as long. A GIF
    needs no script and no server, so that it moves in the built page and in a notebook alike.

    Raises ValueError if there are no frames or the alternative text is empty.
    """
    if not len(frames) or not alt.strip():
        raise ValueError(f"animation needs frames and an alt text, got {len(frames)} and {alt!r}")
    pictures = []
    for frame in frames:
        figure = plt.figure(figsize=figsize, dpi=90)
        draw(figure, frame)
        figure.canvas.draw()
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


def table(head: Sequence[str], rows: Sequence[Sequence], *, caption: str) -> HTML:
    """A table of results; None is shown as a dash, a float with three significant digits.

    Raises ValueError if a row is not as long as the head.
    """
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"table row {row!r} has {len(row)} cells, the head has {len(head)}")

    def cell(value) -> str:
        text = "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
        return html.escape(text)

    top = "".join(f"<th scope='col'>{cell(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row) + "</tr>" for row in rows)
    return HTML(
        "<div class='results-box' tabindex='0' role='region' aria-label='Table of results'>"
        f"<table class='results'><caption>{html.escape(caption)}</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
