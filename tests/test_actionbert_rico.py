"""Boxes against SciPy's interpolation; readers of real data on small files made here."""

import json
import struct

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from lib.actionbert import boxes, rico, screens, world

RNG = np.random.default_rng(0)
PICTURE = RNG.random((23, 17, 3)).astype(np.float32)


def sampled(box, size, samples):
    """Means of points of a box by scipy: pixel (i, j) has its centre at i + 0.5."""
    x0, y0, x1, y1 = box
    parts = (np.arange(size * samples) + 0.5) / (size * samples)
    y, x = np.meshgrid(y0 + (y1 - y0) * parts, x0 + (x1 - x0) * parts, indexing="ij")
    channels = [
        map_coordinates(PICTURE[..., c], [y - 0.5, x - 0.5], order=1, mode="nearest")
        for c in range(3)
    ]
    return np.stack(channels, -1).reshape(size, samples, size, samples, 3).mean((1, 3))


@pytest.mark.parametrize("size, samples", [(1, 1), (4, 1), (5, 2), (16, 3)])
def test_boxes_are_sampled_as_scipy_does(size, samples):
    corners = RNG.uniform(-3, 12, (20, 2))
    some = np.concatenate([corners, corners + RNG.uniform(0.2, 15, (20, 2))], 1)
    some = some.astype(np.float32)
    found = boxes.roi_align(PICTURE, some, size=size, samples=samples)
    expected = np.stack([sampled(box, size, samples) for box in some])
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if samples == 1:
        same = boxes.crop_and_resize(PICTURE, some, size=size)
        np.testing.assert_array_equal(found, same)


def test_a_crop_at_full_size_is_the_picture():
    whole = np.array([[2, 3, 14, 15]], np.float32)
    found = boxes.crop_and_resize(PICTURE, whole, size=12)
    np.testing.assert_allclose(found[0], PICTURE[3:15, 2:14], atol=1e-6)
    small = (PICTURE * 255).astype(np.uint8)
    found = boxes.crop_and_resize(small, whole, size=12)
    np.testing.assert_array_equal(found[0], small[3:15, 2:14])


def test_a_crop_has_a_slope():
    box = np.array([[0, 0, 2, 2]], np.float32)
    slope = jax.grad(lambda x: boxes.roi_align(x, box, size=1, samples=2).sum())(PICTURE)
    np.testing.assert_allclose(slope[:2, :2], 0.25, atol=1e-6)
    assert not slope[2:].any() and not slope[:, 2:].any()


# Rico --------------------------------------------------------------------------------------------


def leaf(x0, y0, x1, y1, **fields):
    return {"bounds": [x0, y0, x1, y1], "visible-to-user": True} | fields


TREE = {
    "bounds": [0, 0, 1440, 2560],
    "children": [
        leaf(
            0, 0, 720, 256, **{
                "content-desc": [None, "Find it"], "resource-id": "com.a.b:id/search_button",
                "class": "android.widget.ImageButton", "text": None,
            }
        ),
        None,
        {
            "bounds": [0, 256, 1440, 2560],
            "children": [
                leaf(0, 256, 1440, 2560, text="Rooms", **{"class": "android.widget.TextView"}),
                leaf(0, 256, 100, 356, **{"visible-to-user": False}),
                leaf(90, 300, 90, 356),
                leaf(144, 512, 288, 640, componentLabel="Icon", iconClass="star"),
            ],
        },
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A trace of three screens, of which one has no hierarchy."""
    hierarchies = tmp_path / "trace_0" / "view_hierarchies"
    hierarchies.mkdir(parents=True)
    for name in ("2", "10"):
        text = json.dumps({"activity": {"root": TREE}, "activity_name": "a"})
        (hierarchies / f"{name}.json").write_text(text)
    (hierarchies / "30.json").write_text("null")
    gestures = {"2": [[0.15, 0.22], [0.3, 0.3]], "10": [], "30": [[0.5, 0.5]]}
    (tmp_path / "trace_0" / "gestures.json").write_text(json.dumps(gestures))
    pictures = tmp_path / "trace_0" / "screenshots"
    pictures.mkdir()
    Image.fromarray(RNG.integers(0, 256, (64, 36, 3)).astype(np.uint8)).save(pictures / "2.jpg")
    return tmp_path / "trace_0"


def test_leaves_have_the_four_fields_and_relative_boxes(folder):
    found = rico.read_view_hierarchy(folder / "view_hierarchies" / "2.json")
    first, text, icon = found
    assert first == rico.Component(
        "Find it", "search_button", "ImageButton", "", (0.0, 0.0, 0.5, 0.1)
    )
    assert first.sentence == "Find it search_button ImageButton"
    assert (text.kind, text.text, text.box) == ("TextView", "Rooms", (0.0, 0.1, 1.0, 1.0))
    assert (icon.label, icon.icon, icon.kind) == ("Icon", "star", "View")


def test_semantic_annotations_have_their_root_alone(tmp_path):
    path = tmp_path / "1.json"
    path.write_text(json.dumps(TREE))
    assert [c.label for c in rico.read_view_hierarchy(path)] == ["", "", "Icon"]


def test_a_trace_tells_what_was_touched(folder):
    steps = rico.read_trace(folder)
    assert [step.name for step in steps] == ["2", "10", "30"]
    assert [step.clicked for step in steps] == [2, -1, -1], "the smallest around the point"
    assert [len(step.components) for step in steps] == [3, 3, 0]
    assert [bool(step.screenshot) for step in steps] == [True, False, False]
    assert rico.hit(steps[0].components, 0.9, 0.05) == -1
    assert rico.hit(steps[0].components, 0.9, 0.5) == 1


def test_real_screens_become_views(folder):
    steps = rico.read_trace(folder)
    found = rico.view([s.components for s in steps], [s.screenshot for s in steps], most=5)
    np.testing.assert_array_equal(found.present.sum(1), [3, 3, 0])
    np.testing.assert_allclose(found.position[0, 0], [0, 0, 0.5, 0.1, 0.25, 0.05, 0.1, 0.5, 0.2])
    assert found.vision[0, :3].any(1).all() and found.screenshot[0].any()
    assert not found.vision[1:].any() and not found.vision[0, 3:].any()
    assert found.text[0, 0] @ rico.embed("search BUTTON") > 20 > found.text[0, 1] @ found.text[0, 0]
    np.testing.assert_array_equal(rico.embed("--"), np.zeros(64, np.float32))
    whole = rico.view([steps[0].components], [np.zeros((64, 36), np.uint8)])
    assert whole.present.shape == (1, 32) and whole.text.shape[2] == 64


def test_positions_are_those_of_the_laboratory():
    apps = screens.make_apps(world.make_world(), 3, 0)
    known = apps.position[apps.present]
    np.testing.assert_allclose(rico.positions(known[:, :4]), known, atol=1e-5)


# UIBert ------------------------------------------------------------------------------------------


def varint(n):
    n %= 1 << 64
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def part(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def record(features):
    """A TFRecord of tf.train.Example, from the definitions of the two formats."""
    entries = b""
    for name, values in features.items():
        if isinstance(values[0], bytes):
            kind, content = 1, b"".join(part(1, value) for value in values)
        elif isinstance(values[0], float):
            kind, content = 2, part(1, struct.pack(f"<{len(values)}f", *values))
        else:
            kind, content = 3, part(1, b"".join(varint(value) for value in values))
        entries += part(1, part(1, name.encode()) + part(2, part(kind, content)))
    data = part(1, entries)
    return struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)


def sides(name, low, high):
    return {
        f"{name}/{side}": [float(x) for x in values]
        for side, values in zip(
            ("xmin", "xmax", "ymin", "ymax"), (low, high, low, high), strict=True
        )
    }


EXPRESSION = {
    "image/id": [b"72"], "image/ref_exp/text": ["über the top".encode()],
    "image/ref_exp/label": [1], **sides("image/object/bbox", [0.1, 0.25], [0.5, 0.75]),
}  # fmt: skip
SIMILAR = {
    "anchor/image/id": [b"5"], "search/image/id": [b"9"], "search/correct/index": [2],
    **sides("anchor/image/anchor/bbox", [0.5], [0.75]),
    **sides("search/image/candidate/bbox", [0.0, 0.25, 0.5], [0.5, 0.5, 1.0]),
}  # fmt: skip


def test_questions_of_uibert_are_read(tmp_path):
    path = tmp_path / "dev.tfrecord"
    path.write_bytes(record(EXPRESSION) + record(SIMILAR))
    said, similar = rico.read_retrieval(path)
    assert (said.screen, said.label, said.expression) == ("72", 1, "über the top")
    np.testing.assert_allclose(said.boxes, [[0.1] * 2 + [0.5] * 2, [0.25] * 2 + [0.75] * 2])
    assert (similar.screen, similar.label, similar.anchor_screen) == ("9", 2, "5")
    assert similar.anchor == (0.5, 0.5, 0.75, 0.75) and similar.boxes.shape == (3, 4)


def test_integers_of_records_may_be_loose_and_negative(tmp_path):
    path = tmp_path / "x"
    loose = part(
        1, part(1, b"n") + part(2, part(3, varint(8) + varint(-3) + varint(8) + varint(9)))
    )
    data = part(1, loose)
    path.write_bytes(struct.pack("<QI", len(data), 0) + data + bytes(4) + record({"m": [-1, 300]}))
    assert list(rico.read_tfrecord(path)) == [{"n": [-3, 9]}, {"m": [-1, 300]}]


def test_summaries_are_gathered_by_screen(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('screenId,summary\n1,a list\n2,"a, b"\n1,more\n', encoding="utf-8")
    assert rico.read_summaries(path) == {"1": ["a list", "more"], "2": ["a, b"]}


# Bad input ---------------------------------------------------------------------------------------


def test_missing_files_say_where_to_get_them(tmp_path):
    for read, where in (
        (rico.read_view_hierarchy, "get Rico from https://www.interactionmining.org"),
        (rico.read_trace, "get Rico from"),
        (rico.read_retrieval, "get UIBert from https://github.com/google-research"),
        (rico.read_summaries, "get Screen2Words from"),
    ):
        with pytest.raises(FileNotFoundError, match=f"nothing is not there: {where}"):
            read(tmp_path / "nothing")


@pytest.mark.parametrize(
    "read, data, says",
    [
        (rico.read_view_hierarchy, b"{", "is no JSON"),
        (rico.read_view_hierarchy, b"[1]", "is no view hierarchy: wanted a root with bounds"),
        (rico.read_view_hierarchy, b'{"activity": null}', "is no view hierarchy"),
        (rico.read_view_hierarchy, b'{"bounds": [0, 0, 0, 9]}', r"bounds \[0, 0, 0, 9\] have no"),
        (rico.read_retrieval, record(EXPRESSION)[:-6], "is cut off in the record at byte 0"),
        (rico.read_retrieval, b"abc", "is cut off in the record at byte 0"),
        (rico.read_retrieval, record({"image/id": [b"1"]}), "has a record without"),
        (
            rico.read_retrieval,
            struct.pack("<QI", 3, 0) + b"\xff\xff\xff" + bytes(4),
            "holds no tf.train.Example at byte 0",
        ),
        (rico.read_summaries, b"a,b\n1,2\n", "wanted screenId and summary"),
        (rico.read_summaries, b"", "has columns None: wanted screenId"),
    ],
)
def test_damaged_files_are_named(tmp_path, read, data, says):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path}.*{says}|{path}: the root's {says}"):
        read(path)


def test_a_trace_needs_a_table_of_gestures(folder):
    (folder / "gestures.json").write_text("[]")
    with pytest.raises(ValueError, match="gestures.json is no table"):
        rico.read_trace(folder)


@pytest.mark.parametrize(
    "image, some, options, says",
    [
        (PICTURE[..., 0], [[0, 0, 1, 1]], {"size": 2}, r"image has shape \(23, 17\)"),
        (PICTURE, [[0, 0, 1]], {"size": 2}, r"boxes \(1, 3\): wanted"),
        (PICTURE, [[0, 0, 1, 1]], {"size": 0}, "size=0 and samples=2 must be at least 1"),
        (PICTURE, [[0, 0, 1, 1], [3, 3, 3, 9]], {"size": 2}, r"boxes\[1\]=.* has no extent"),
    ],
)
def test_bad_boxes_are_named(image, some, options, says):
    with pytest.raises(ValueError, match=says):
        boxes.roi_align.__wrapped__(image, np.array(some, np.float32), **options)


def test_as_many_pictures_as_screens():
    with pytest.raises(ValueError, match="pictures has 0 entries: give one for each of 1"):
        rico.view([[]], [])
