"""Claims, scales, records and figures: what every chapter shares."""

import json
import os

import jax
import joblib
import matplotlib.pyplot as plt
import pytest

from lib import figures, recorded, scale
from lib.claims import Claim, Claims, Test, when
from lib.parallel import each
from lib.wording import NOT_TESTED, number, typeset


def claim(*ours, id="C1", low=1.0, high=2.0):
    tests = tuple(Test(f"statistic {i}", value, low, high) for i, value in enumerate(ours))
    return Claim(id, "a < b", "Table 1", tests, "theory")


@pytest.mark.parametrize(
    "ours, verdict",
    [
        ([1.0], "HOLDS"),  # both bounds belong to the interval
        ([2.0], "HOLDS"),
        ([2.1], "FAILS"),
        ([0.9, 1.5], "PARTLY"),
        ([None, 1.5], "PARTLY"),  # what was not measured does not hold
        ([None, 2.5], "FAILS"),
        ([None], NOT_TESTED),
        ([[0.5, 2.0]], "HOLDS"),  # over seeds the mean is judged
        ([[0.5, 1.0]], "FAILS"),
    ],
)
def test_verdict_follows_from_the_intervals(ours, verdict):
    assert claim(*ours).verdict == verdict


def test_what_is_not_measured_is_not_computed():
    assert when(True, 2.0) == when(True, lambda: 2.0) == 2.0
    assert when(False, 2.0) is when(False, lambda: 1 / 0) is None


def test_claims_show_themselves_as_text_html_and_json():
    table = Claims(claim([1.0, 1.5]), claim(3.0, id="C10"), slug="x", scale="smoke", seed=4)
    data, metadata = table._repr_mimebundle_()
    assert data["text/plain"] == "C1   HOLDS\nC10  FAILS"
    assert "id='claim-x-c10'" in data["text/html"] and "a &lt; b" in data["text/html"]
    first = json.loads(json.dumps(metadata, allow_nan=False))["claims"][0]
    assert first["verdict"] == "HOLDS" and first["scale"] == "smoke" and first["seed"] == 4
    assert first["tests"][0]["ours"] == 1.25 and first["tests"][0]["spread"] == [1.0, 1.5]


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Test("s", 1.0), "can never fail"),
        (lambda: Test("s", 1.0, 2, 1), "above"),
        (lambda: Test("s", float("inf"), 1), "not finite"),
        (lambda: Test("s", [], 1), "not finite"),
        (lambda: Claim("C1", "", "", (), ""), "no test"),
        (lambda: Claims(claim(1), claim(1), slug="x", scale="smoke"), "stand twice: C1"),
        (lambda: Claims(claim(1), slug="x", scale="huge"), "use one of smoke, laptop, paper"),
        (lambda: scale.pick("full", smoke=1, laptop=2, paper=3), "scale='full'"),
        (lambda: scale.within(0.1, 1.0, share=2), "share=2 must be a number from 0.1 to 1.0"),
        (lambda: scale.within(0.1, 1.0, share="0.5"), "share='0.5' must be a number"),
        (lambda: scale.within(1, 1000, cohort=2.0), "a whole number from 1 to 1,000"),
        (lambda: scale.within(1, 1000, cohort=None), "cohort=None must be a whole number"),
        (lambda: figures.table(["a"], [[1, 2]], caption="x"), "has 2 cells, the head has 1"),
        (lambda: figures.animation(lambda f, i: None, [], alt="x"), "needs frames"),
    ],
)
def test_bad_input_says_what_was_wanted(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (3.14159, "3.14"), (1474, "1,474"), (9.54e-07, "9.5×10⁻⁷")],
)
def test_numbers_are_rounded_for_readers(value, text):
    assert number(value) == text


def test_scale_picks_its_value():
    assert [scale.pick(s, smoke=1, laptop=2, paper=3) for s in scale.SCALES] == [1, 2, 3]


def test_a_parameter_within_its_bounds_is_what_it_was():
    given = [(0.1, 1.0, 1), (0.1, 1.0, 0.1), (1, 1000, 1), (1, 1000, 1000)]
    assert [scale.within(low, high, share=x) for low, high, x in given] == [1, 0.1, 1, 1000]


def test_recorded_results_are_read_and_missing_ones_are_empty(tmp_path):
    (tmp_path / "x.json").write_text('{"claims": []}')
    assert recorded.load("x", tmp_path) == {"claims": []}
    assert recorded.load("y", tmp_path) == {}


def test_an_interrupted_run_computes_only_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("EXECUTABLE_PAPERS_RESUME", str(tmp_path / "run"))
    assert recorded.resumable("a", lambda: {"x": [1, None]}) == {"x": [1, None]}
    assert recorded.resumable("a", lambda: pytest.fail("computed twice")) == {"x": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        recorded.resumable("b", lambda: {"x": float("nan")})
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["a.json"]


def test_without_a_folder_nothing_is_kept(monkeypatch):
    monkeypatch.delenv("EXECUTABLE_PAPERS_RESUME", raising=False)
    assert [recorded.resumable("a", lambda i=i: {"x": i})["x"] for i in (1, 2)] == [1, 2]


def test_tables_escape_round_and_show_gaps():
    shown = figures.table(["a<b", "n"], [[1.23456, None]], caption="c").data
    assert "a&lt;b" in shown and "1.23" in shown and "1.234" not in shown and "–" in shown


def test_a_number_is_not_rounded_over_its_bound():
    table = Claims(claim(3.9972, low=3.996, high=3.998), slug="x", scale="smoke")
    assert "<strong>3.9972</strong>" in table._repr_mimebundle_()[0]["text/html"]


@pytest.mark.parametrize(
    "python, book",
    [
        ("-1.5 to -.5", "−1.5 to −.5"),
        ("-0.0 ± 0.1", "0.0 ± 0.1"),
        ("2e-07", "2×10⁻⁷"),
        ("1.5e+05", "1.5×10⁵"),
        ("0e+00", "0"),
        ("LSA-2, 2023-09-11, 3-5, 9f2e-07, +0.05", "LSA-2, 2023-09-11, 3-5, 9f2e-07, +0.05"),
    ],
)
def test_numbers_are_set_as_in_a_book(python, book):
    assert typeset(python) == book


def test_series_for_the_record_travel_in_the_metadata():
    data, metadata = recorded.Runs(cnn={"rounds": [1]})._repr_mimebundle_()
    assert metadata == {"recorded_runs": {"cnn": {"rounds": [1]}}} and "cnn" in data["text/plain"]


def test_provenance_is_json_and_names_versions():
    facts = json.loads(json.dumps(recorded.provenance()))
    assert facts["versions"]["jax"] == jax.__version__ and facts["hardware"] and facts["date"]


def test_animation_is_a_moving_gif():
    gif = figures.animation(lambda f, i: f.add_subplot().plot([0, i]), [1, 2], alt="two lines")
    assert (
        gif.data[:3] == b"GIF" and gif.data.count(b"\x21\xf9\x04") == 2 and gif.alt == "two lines"
    )
    assert not plt.get_fignums()


# lib.parallel ------------------------------------------------------------------------------------


def test_each_keeps_the_order_and_gives_the_same_in_turn_and_side_by_side():
    shift = 0.5  # a global of the notebook travels with the function

    def run(setting):
        return os.getpid(), float(jax.random.normal(jax.random.key(setting))) + shift

    settings = [3, 1, 2]
    alone = each(run, settings, scale="smoke")
    together = each(run, settings, scale="laptop")
    assert list(alone) == list(together) == settings
    assert {pid for pid, _ in alone.values()} == {os.getpid()}
    if joblib.cpu_count() > 1:
        assert os.getpid() not in {pid for pid, _ in together.values()}
    for setting in settings:
        assert alone[setting][1] == pytest.approx(together[setting][1], abs=1e-6)


def test_each_says_what_was_wanted_and_lets_an_error_through():
    with pytest.raises(ValueError, match="must all be different"):
        each(str, [1, 1], scale="smoke")
    with pytest.raises(ValueError, match="scale='huge' is not known"):
        each(str, [1], scale="huge")
    for size in ("smoke", "laptop"):
        with pytest.raises(ZeroDivisionError):
            each(lambda n: 1 / n, [0, 1], scale=size)
