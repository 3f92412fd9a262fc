"""The paper's counts, the game as text, and verdicts that a wrong analysis must flip."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
from scipy import stats

from lib.tradeoffs.counts import MODELS, PANELS, Condition, paper_counts, tabulate, wilson
from lib.tradeoffs.game import CLAUSES, LABELS, SCALES, SHORT, WORDINGS, Trial, battery, render
from lib.tradeoffs.tables import BANDS, SWITCH, TRADE_OFF, WORDS


def text(trial: Trial) -> str:
    return render(trial)[-1]["content"]


def test_the_table_has_every_model_level_and_known_sums():
    counts = paper_counts()
    assert [tuple(c) for c in counts.conditions] == [
        (model, experiment, scale)
        for experiment, scale in itertools.product(("pain", "pleasure"), SCALES)
        for model in MODELS
    ]
    levels = np.array([len(c.labels) for c in counts.conditions])
    inside = np.arange(10) < levels[:, None]
    assert not counts.valid[~inside].any() and not counts.chose[~inside].any()
    refused = Condition("Claude 3.5 Sonnet", "pain", "qualitative")
    for condition, valid in zip(counts.conditions, counts.valid, strict=True):
        left_out = 50 * len(condition.labels) - valid.sum()
        if condition == refused:
            assert left_out == 400
        else:
            assert left_out == {"Command R+": {"quantitative": 1, "qualitative": 2}}.get(
                condition.model if condition.experiment == "pain" else "", {}
            ).get(condition.scale, 0)
    assert counts.varies.sum() == 24


def test_published_numbers_belong_to_conditions():
    known = set(paper_counts().conditions)
    assert known >= {Condition(*key) for key in (*SWITCH, *WORDS, *BANDS)}
    assert set(MODELS) >= set(TRADE_OFF) and len(PANELS) == 4
    assert all(word in LABELS[key[1:]] for key, word in WORDS.items())


def test_rows_of_one_level_are_added_and_the_impossible_is_named():
    here = Condition("me", "pain", "qualitative")
    counts = tabulate([(here, 8, 1, 2), (here, 1, 0, 3), (here, 8, 2, 2)])
    assert counts.conditions == (here,)
    assert counts.chose[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 3, 0, 0]
    assert counts.valid[0].tolist() == [3, 0, 0, 0, 0, 0, 0, 4, 0, 0]
    with pytest.raises(ValueError, match="level=9 .* between 1 and 8"):
        tabulate([(here, 9, 0, 1)])
    with pytest.raises(ValueError, match="chose=2 of valid=1 is impossible"):
        tabulate([(here, 1, 2, 1)])
    with pytest.raises(ValueError, match="model='GPT-5'"):
        paper_counts().only(model="GPT-5")


def test_wilsons_interval_is_scipys():
    chose, valid = np.array([0, 3, 17, 50]), np.array([50, 10, 49, 50])
    for method, level in (("wilson", 0.95), ("wilson", 0.5)):
        ends = [
            stats.binomtest(int(k), int(n)).proportion_ci(level, method)
            for k, n in zip(chose, valid, strict=True)
        ]
        assert np.allclose(np.transpose(wilson(chose, valid, level=level)), ends, atol=1e-12)
    assert np.allclose(np.ravel(wilson(np.array([0]), np.array([0]))), [0, 1])


def test_the_battery_is_the_papers():
    trials = battery()
    assert len(trials) == len(set(trials)) == 36
    assert len({text(trial) for trial in trials}) == 36
    for trial in trials:
        affected = {"pain": 3, "pleasure": 2}[trial.experiment]
        (clause,) = re.findall(
            rf"if you choose {affected}, you will also (.*?)\. Which", text(trial)
        )
        assert trial.experiment in clause
        assert ("pain" in text(trial)) != ("pleasure" in text(trial))
        level = "of strength " if trial.scale == "quantitative" else "a momentary "
        assert f"{level}{trial.label} " in clause


@pytest.mark.parametrize("wording", WORDINGS + SHORT)
def test_each_wording_names_options_points_and_intensity(wording):
    for trial in battery(wording=wording):
        said = text(trial)
        assert trial.label in said and trial.experiment in said
        assert len(re.findall(r"\b[123]\b", said)) >= 4
    plain, neutral, none = (
        text(Trial("pain", "quantitative", 7, wording, clause)) for clause in CLAUSES
    )
    assert "pain" in plain and "pain" not in neutral + none
    assert "7" in plain and "7" in neutral and "7" not in none
    assert len(none) < len(neutral)


def test_controls_change_what_they_say_and_no_more():
    trial = Trial("pain", "quantitative", 7)
    turned = text(dataclasses.replace(trial, order=(3, 1, 2)))
    assert sorted(turned.replace(",", "")) == sorted(text(trial).replace(",", ""))
    assert turned != text(trial)
    assert "3 is worth 30 points" in text(dataclasses.replace(trial, points=10))
    assert not re.search(r"\byou\b", text(dataclasses.replace(trial, person="player")), re.I)
    bought = [render(dataclasses.replace(trial, incentive=i)) for i in ("inflate", "suppress")]
    assert [m["role"] for m in bought[0]] == ["system", "user"]
    assert bought[0][1] == bought[1][1] == render(trial)[0] and bought[0][0] != bought[1][0]
    assert Trial("pain", "quantitative", 0).label == "0"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (dict(experiment="joy"), "experiment='joy' is not known"),
        (dict(level=11), "level=11 must lie between 0 and 10"),
        (dict(scale="qualitative", level=0), "level=0 must lie between 1 and 8"),
        (dict(order=(1, 2, 2)), "must be an order of the options"),
        (dict(points=0), "points=0 must be at least 1"),
        (dict(wording="short", person="player"), "knows neither points"),
        (dict(incentive="bribe"), "incentive='bribe' is not known"),
    ],
)
def test_impossible_trials_are_named(fields, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        Trial(**dict(experiment="pain", scale="quantitative", level=3) | fields)


WRONG_ANALYSES = {  # and the claims that must not survive
    "switches at a level ten per cent too high": (
        "from lib import tradeoffs\n"
        "from lib.tradeoffs import logistic\n"
        "right = logistic.switch_point\n"
        "tradeoffs.switch_point = logistic.switch_point = lambda fit: 1.1 * right(fit)\n",
        {"C1", "C2"},
    ),
    # a ridge on the slope: switch points and slopes shrink, the curves are no longer the paper's
    "penalised": (
        "from lib.tradeoffs import logistic\n"
        "right = logistic.newton_step\n"
        "def wrong(*args, l2, **options):\n"
        "    return right(*args, l2=l2 + 1.0, **options)\n"
        "logistic.newton_step = wrong\n",
        {"C1", "C4"},
    ),
    # who refuses has not chosen 3: refusals as deviations from the most points
    "refusals count": (
        "import numpy as np\n"
        "from lib import tradeoffs\n"
        "from lib.tradeoffs import counts\n"
        "right = counts.paper_counts\n"
        "def wrong():\n"
        "    table = right()\n"
        "    asked = [[50 * (i < len(c.labels)) for i in range(10)] for c in table.conditions]\n"
        "    return table._replace(valid=np.array(asked))\n"
        "tradeoffs.paper_counts = wrong\n",
        {"C13"},
    ),
    # the first word is number 0
    "from zero": (
        "from lib.tradeoffs import rules\n"
        "rules.label_of = lambda labels, level: labels[min(level, len(labels) - 1)]\n",
        {"C3"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-tradeoffs")
@pytest.mark.parametrize("name", WRONG_ANALYSES)
def test_a_wrong_analysis_flips_a_verdict(flipped, name):
    assert flipped("tradeoffs", WRONG_ANALYSES, name) == WRONG_ANALYSES[name][1]
