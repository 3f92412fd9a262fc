"""Real user interfaces, from files that you have: Rico and two collections built on it.

He et al. (2021), arXiv 2012.12350v2, section 5, test on Rico (Deka et al., 2017): view hierarchies,
screenshots, traces with gestures and semantic annotations, https://www.interactionmining.org/rico.
Its tasks with labels are not public; close ones are: UIBert's retrieval of components (Bai et al.,
2021, https://github.com/google-research-datasets/uibert) and Screen2Words (Wang et al., 2021,
https://github.com/google-research-datasets/screen2words). None of them comes with the book.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image

from lib.actionbert.boxes import crop_and_resize
from lib.actionbert.encoders import hog, sentences, word_vectors
from lib.actionbert.model import View
from lib.datasets.tf_example import parse_example

SOURCES = {
    "Rico": "https://www.interactionmining.org/rico",
    "UIBert": "https://github.com/google-research-datasets/uibert",
    "Screen2Words": "https://github.com/google-research-datasets/screen2words",
}
PLACEHOLDER = "android.view.View"


class Component(NamedTuple):
    """A leaf of a view hierarchy: the four fields of Table 1, and its box."""

    description: str
    identifier: str
    kind: str  # class
    text: str
    box: tuple[float, float, float, float]  # x, y from and to, relative to the screen
    label: str = ""  # of semantic annotations: componentLabel
    icon: str = ""  # of semantic annotations: iconClass

    @property
    def sentence(self) -> str:
        """All fields in one, as the paper gives them to its sentence encoder."""
        return " ".join(part for part in self[:4] if part)


class Step(NamedTuple):
    """A screen of a trace, and which of its components was touched; -1 if none was hit."""

    name: str
    components: list[Component]
    clicked: int
    screenshot: Path | None


class Retrieval(NamedTuple):
    """A question of UIBert's data: which of the boxes is meant. Boxes as in `Component`."""

    screen: str  # Rico's number of the screen with the candidates
    boxes: Float32[np.ndarray, "k 4"]
    label: int
    expression: str = ""  # of RefExp
    anchor_screen: str = ""  # of AppSim
    anchor: tuple[float, float, float, float] | None = None


def read_view_hierarchy(path: str | Path) -> list[Component]:
    """The visible leaves of a view hierarchy of Rico, or of its semantic annotations.

    Raises FileNotFoundError, saying where to get the data, and ValueError for a file that is no
    view hierarchy.
    """
    path = _there(path, "Rico")
    root = _json(path)
    if isinstance(root, dict):
        root = root.get("activity", {"root": root})
        root = root.get("root") if isinstance(root, dict) else None
    if not isinstance(root, dict) or "bounds" not in root:
        raise ValueError(
            f"{path} is no view hierarchy: wanted a root with bounds, or activity.root as in Rico"
        )
    x0, y0, x1, y1 = root["bounds"]
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"{path}: the root's bounds {root['bounds']} have no extent")
    found = []
    for leaf in _leaves(root):
        box = leaf.get("bounds", [0, 0, 0, 0])
        box = np.clip((np.array(box) - (x0, y0, x0, y0)) / np.tile([x1 - x0, y1 - y0], 2), 0, 1)
        if leaf.get("visible-to-user", True) and box[2] > box[0] and box[3] > box[1]:
            found.append(_component(leaf, tuple(box.tolist())))
    return found


def read_trace(folder: str | Path) -> list[Step]:
    """One of Rico's traces: a folder with gestures.json and JSON files in view_hierarchies.

    A gesture is a list of points, relative to the screen; the first one is the touch. What it hits
    is the smallest component around it. Steps come in the order of their numbers.

    Raises FileNotFoundError, saying where to get the data, and ValueError for a damaged file.
    """
    folder = _there(folder, "Rico")
    gestures = _json(_there(folder / "gestures.json", "Rico"))
    if not isinstance(gestures, dict):
        raise ValueError(f"{folder / 'gestures.json'} is no table from screens to gestures")
    steps = []
    for path in sorted((folder / "view_hierarchies").glob("*.json"), key=_number):
        try:
            components = read_view_hierarchy(path)
        except ValueError:  # Rico has a few screens without a hierarchy
            components = []
        points = gestures.get(path.stem) or []
        screenshot = folder / "screenshots" / f"{path.stem}.jpg"
        clicked = hit(components, *points[0]) if points else -1
        there = screenshot if screenshot.exists() else None
        steps.append(Step(path.stem, components, clicked, there))
    return steps


def hit(components: Sequence[Component], x: float, y: float) -> int:
    """The smallest component around a point that is relative to the screen; -1 if there is none."""
    areas = [
        (x1 - x0) * (y1 - y0) if x0 <= x <= x1 and y0 <= y <= y1 else np.inf
        for x0, y0, x1, y1 in (component.box for component in components)
    ]
    return int(np.argmin(areas)) if areas and min(areas) < np.inf else -1


def read_retrieval(path: str | Path) -> list[Retrieval]:
    """A file of UIBert's AppSim or RefExp, in the format TFRecord.

    Raises FileNotFoundError, saying where to get the data, and ValueError for a damaged file.
    """
    path = _there(path, "UIBert")
    found = []
    for features in read_tfrecord(path):
        try:
            if "image/ref_exp/text" in features:
                boxes = _bounds(features, "image/object/bbox")
                label = int(features["image/ref_exp/label"][0])
                text = features["image/ref_exp/text"][0].decode()
                found.append(Retrieval(_name(features["image/id"]), boxes, label, text))
            else:
                boxes = _bounds(features, "search/image/candidate/bbox")
                anchor = tuple(_bounds(features, "anchor/image/anchor/bbox")[0].tolist())
                screens = _name(features["search/image/id"]), _name(features["anchor/image/id"])
                label = int(features["search/correct/index"][0])
                found.append(Retrieval(screens[0], boxes, label, "", screens[1], anchor))
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"{path} has a record without {error}: wanted AppSim or RefExp of UIBert"
            ) from None
    return found


def read_summaries(path: str | Path) -> dict[str, list[str]]:
    """Screen2Words' file of summaries: several sentences for each of Rico's screens.

    Raises FileNotFoundError, saying where to get the data, and ValueError for a file without the
    columns screenId and summary.
    """
    path = _there(path, "Screen2Words")
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"screenId", "summary"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} has columns {rows.fieldnames}: wanted screenId and summary")
        for row in rows:
            found.setdefault(row["screenId"], []).append(row["summary"])
    return found


def view(
    screens: Sequence[Sequence[Component]],
    pictures: Sequence[str | Path | UInt8[np.ndarray, "height width"] | None],
    *,
    most: int = 32,
    size: int = 16,
    cells: int = 4,
) -> View:
    """What a model of this book sees of real screens, whose first `most` components count.

    Texts through the hashed sentence encoder, crops through histograms of oriented gradients; a
    screen without a picture (None) looks blank.

    Raises ValueError if there are not as many pictures as screens.
    """
    if len(screens) != len(pictures):
        raise ValueError(
            f"pictures has {len(pictures)} entries: give one for each of {len(screens)}"
        )
    n, features = len(screens), 5 * cells**2
    text, vision = np.zeros((n, most, 64), np.float32), np.zeros((n, most, features), np.float32)
    position, whole = np.zeros((n, most, 9), np.float32), np.zeros((n, features), np.float32)
    present: Bool[np.ndarray, "n most"] = np.zeros((n, most), bool)
    for i, (components, picture) in enumerate(zip(screens, pictures, strict=True)):
        some = components[:most]
        boxes = np.array([c.box for c in some], np.float32).reshape(-1, 4)
        present[i, : len(some)] = True
        position[i, : len(some)] = positions(boxes)
        for j, component in enumerate(some):
            text[i, j] = embed(component.sentence)
        if picture is not None:
            pixels = _pixels(picture)
            scale = np.tile(pixels.shape[::-1], 2).astype(np.float32)
            all_boxes = np.concatenate([np.array([[0, 0, 1, 1]], np.float32), boxes]) * scale
            padded = np.tile(all_boxes[:1], (most + 1, 1))
            padded[: len(all_boxes)] = all_boxes
            crops = np.asarray(crop_and_resize(pixels[..., None], padded, size=size))[..., 0]
            seen = np.asarray(hog(np.round(crops).astype(np.uint8), cells=cells))
            whole[i], vision[i, : len(some)] = seen[0], seen[1 : 1 + len(some)]
    return View(text, vision, position, present, whole)


def positions(boxes: Float[np.ndarray, "k 4"]) -> Float32[np.ndarray, "k 9"]:
    """The nine numbers of section 3.1: corners, centre, height, width, 4 times the area."""
    x0, y0, x1, y1 = boxes.T
    width, height = x1 - x0, y1 - y0
    numbers = (x0, y0, x1, y1, (x0 + x1) / 2, (y0 + y1) / 2, height, width, 4 * height * width)
    return np.stack(numbers, 1).astype(np.float32)


def embed(text: str) -> Float32[np.ndarray, " 64"]:
    """A sentence by the hashed encoder: its words in lower case, split at all that is no letter."""
    words = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    if not words:
        return np.zeros(64, np.float32)
    return sentences(word_vectors(words), np.arange(len(words))[None])[0]


# TFRecords, without TensorFlow -------------------------------------------------------------------


def read_tfrecord(path: str | Path) -> Iterator[dict[str, list[Any]]]:
    """The records of a TFRecord file of tf.train.Example: bytes, floats or integers by name.

    Checksums are not looked at.

    Raises ValueError for a file that is cut off or holds something else.
    """
    path = Path(path)
    data = path.read_bytes()
    at = 0
    while at < len(data):
        head = data[at : at + 12]
        size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else len(data)
        end = at + 12 + size
        if end + 4 > len(data):
            raise ValueError(f"{path} is cut off in the record at byte {at}: get it again")
        try:
            record = parse_example(data[at + 12 : end])
        except ValueError as error:
            raise ValueError(f"{path} holds no tf.train.Example at byte {at}: {error}") from None
        yield {
            name: values if isinstance(values, list) else values.tolist()
            for name, values in record.items()
        }
        at = end + 4


# Files -------------------------------------------------------------------------------------------


def _there(path, name):
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: get {name} from {SOURCES[name]} and name the file or folder"
        )
    return path


def _json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def _leaves(node: dict) -> Iterator[dict]:
    children: Iterable = [child for child in node.get("children") or [] if child]
    if not children:
        yield node
    for child in children:
        yield from _leaves(child)


def _component(leaf, box):
    described = leaf.get("content-desc") or ""
    if isinstance(described, list):
        described = " ".join(part for part in described if part)
    identifier = (leaf.get("resource-id") or "").rpartition("/")[2]
    kind = (leaf.get("class") or PLACEHOLDER).rpartition(".")[2]
    labels = leaf.get("componentLabel") or "", leaf.get("iconClass") or ""
    return Component(described, identifier, kind, leaf.get("text") or "", box, *labels)


def _number(path):
    return (int(path.stem), "") if path.stem.isdigit() else (1 << 62, path.stem)


def _bounds(features, name):
    sides = [features[f"{name}/{side}"] for side in ("xmin", "ymin", "xmax", "ymax")]
    return np.array(sides, np.float32).T.reshape(-1, 4)


def _name(values):
    return values[0].decode()


def _pixels(picture: Any) -> Float[np.ndarray, "height width"]:
    if isinstance(picture, np.ndarray):
        return picture.astype(np.float32)
    with Image.open(picture) as image:
        return np.asarray(image.convert("L"), np.float32)
