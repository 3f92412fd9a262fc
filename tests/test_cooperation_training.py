"""Training of agents: interruptions, devices, recipes, and what a hundred iterations lead to."""

from functools import partial

import jax
import numpy as np
import pytest
from conftest import check_going_on

from lib.cooperation import estimators, experiments, paper_scale, policies, shaping
from lib.parallel import device_mesh

POOL = shaping.Sizes(
    copies=1, episodes=2, steps=3, learning=4, meeting=2, agents=2, learners=3, epochs=2
)


@pytest.fixture(scope="module")
def pool():
    """Three methods with one seed, one copy, a mixed pool: what trains it to given iterations."""
    method, keys = shaping.side_by_side(estimators.METHODS, jax.random.split(jax.random.key(0), 1))
    make = experiments.table
    start = shaping.begin(keys, agent=make, learner=make, sizes=POOL)

    def train(state=start, at=(3, 7), mesh=None):
        return shaping.train(
            state, key=keys, method=method, sizes=POOL, at=at, ppo=shaping.Ppo(rate=0.1),
            learning=shaping.Learning(rate=0.3), mesh=mesh,
        )  # fmt: skip

    return train


def test_training_goes_on_where_it_stopped(pool):
    whole = pool()
    parts = pool(pool(at=[5]).state, at=[6, 7])
    assert whole.state.done == parts.state.done == 7
    jax.tree.map(np.testing.assert_array_equal, whole.state, parts.state)
    assert whole.learning.reward.shape == (2, 3, 2, 2)
    assert whole.meeting.actions.shape == (2, 3, 2, 2, 2)
    assert np.abs(whole.state.agents.logits).min() > 0.01, "all have learned something"
    # records are averages: four iterations are one, one and two
    middle = pool(pool(at=[3]).state, at=[4, 5, 7]).learning.reward
    whole = whole.learning.reward[1]
    np.testing.assert_allclose(whole, (middle[0] + middle[1] + 2 * middle[2]) / 4, atol=1e-6)


def test_with_one_copy_three_methods_train_the_same_agents(pool):
    for leaf in jax.tree.leaves(pool().state[:2]):
        np.testing.assert_array_equal(leaf[0], leaf[1])
        np.testing.assert_array_equal(leaf[0], leaf[2])


def test_devices_that_share_the_meta_episodes_find_the_same(pool):
    mesh = device_mesh(shaping.AXIS)
    assert mesh.size == 2
    shared, alone = pool(mesh=mesh), pool()
    for a, b in zip(*map(jax.tree.leaves, (shared.state, alone.state)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(shared.meeting.reward, alone.meeting.reward, atol=1e-6)


def test_in_a_hundred_iterations_coala_shapes_and_mfos_defects():
    found = experiments.shape_learners(
        jax.random.key(0), methods=("coala", "mfos"), seeds=3, iterations=100
    )
    assert found.curve.shape == (2, 3, 10) and found.defection.shape == (2, 3, 10)
    coala, mfos = found.reward
    # Training multiplies rounding: of twelve runs, one was not there yet (0.44), the others reached
    # 0.65 to 0.81, so the mean counts
    assert coala.mean() > 0.55 and (np.abs(mfos - 0.5) < 0.05).all()
    assert found.defection[1].min() > 0.9 and found.defection[0].mean(0).max() < 0.9
    assert found.cooperation[0, :, 1].mean() > 0.6 and found.cooperation[1].max() < 0.2


# Paper scale -------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    sizes = shaping.Sizes(
        copies=2, episodes=2, steps=3, learning=2, learners=2, epochs=1, minibatches=1
    )
    recipe = paper_scale.Recipe("coala", "cleanup", sizes, shaping.Ppo(), shaping.Learning())
    recipe = recipe._replace(iterations=3, seeds=2, width=4)
    monkeypatch.setitem(paper_scale.RECIPES, "tiny", recipe)
    monkeypatch.setattr(paper_scale, "BLOCK", 1)
    monkeypatch.setattr(paper_scale, "device_mesh", lambda axis: None)  # tested above


@pytest.mark.parametrize("at", [2, 3], ids=["in between", "at its end"])
def test_a_training_that_was_stopped_goes_on(tiny, tmp_path, monkeypatch, capsys, at):
    told = dict(says="tiny: rewards [0.", done=lambda row: row["iterations"])
    check_going_on(paper_scale, tmp_path, monkeypatch, capsys, at=at, **told)


def test_all_recipes_are_possible(monkeypatch):
    assert len(paper_scale.RECIPES) == 9
    for recipe in paper_scale.RECIPES.values():
        shaping._check_sizes(recipe.sizes)
        shaping._check_settings(recipe.ppo, recipe.learning)
        estimators.method(recipe.method)
    ipd = paper_scale.RECIPES["shaping-coala"].sizes
    assert (ipd.copies, ipd.episodes, ipd.steps, ipd.learning) == (16, 20, 10, 128)
    with pytest.raises(ValueError, match="name='x' is not known: use one of shaping-coala"):
        paper_scale.fit("x")


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, says",
    [
        ({"copies": 0}, "copies=0 must be at least 1"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"meeting": -1}, "meeting=-1 must be at least 0"),
        ({"meeting": 2, "agents": 3}, "agents=3 must be even"),
        ({"minibatches": 4}, r"minibatches=4 must divide learning \+ meeting = 6"),
    ],
)
def test_bad_sizes_are_named(bad, says):
    key = jax.random.split(jax.random.key(0), 1)
    make = experiments.table
    with pytest.raises(ValueError, match=says):
        shaping.begin(key, agent=make, learner=make, sizes=POOL._replace(**bad))


@pytest.mark.parametrize(
    "bad, says",
    [
        ({"at": [5, 3]}, r"at=\[5, 3\] must be iterations that rise, after 2: those are done"),
        ({"at": [2]}, "must be iterations that rise, after 2"),
        ({"ppo": shaping.Ppo(discount=1.1)}, r"ppo.discount=1.1 must lie in \[0, 1\]"),
        ({"learning": shaping.Learning(rate=0.0)}, "learning.rate=0.0 must be positive"),
        ({"learning": shaping.Learning(discount=-1.0)}, "learning.discount=-1.0 must lie"),
        ({"method": estimators.method("coala")}, r"flags of shapes .* one for each of \(1,\)"),
    ],
)
def test_bad_settings_are_named(bad, says):
    method, keys = shaping.side_by_side(["coala"], jax.random.split(jax.random.key(0), 1))
    make = experiments.table
    state = shaping.begin(keys, agent=make, learner=make, sizes=POOL)._replace(done=2)
    good = {"key": keys, "method": method, "sizes": POOL, "at": [3]}
    with pytest.raises(ValueError, match=says):
        shaping.train(state, **good | bad)


def test_bad_experiments_are_named():
    shape, mix = (partial(f, jax.random.key(0)) for f in (experiments.shape_learners,
                                                          experiments.mix_pool))  # fmt: skip
    with pytest.raises(ValueError, match="copies=0 must divide trajectories=128"):
        shape(copies=0)
    with pytest.raises(ValueError, match="method='lola' is not known"):
        shape(methods=["lola"])
    with pytest.raises(ValueError, match="policy='lstm' is not known: use one of table, hawk"):
        shape(policy="lstm")
    with pytest.raises(ValueError, match="seeds=0 and iterations=300 must be"):
        shape(seeds=0)
    with pytest.raises(ValueError, match="share=1 of meta_batch=32 must leave games of both"):
        mix(share=1)
    with pytest.raises(ValueError, match="heads=2 must divide width=5"):
        policies.hawk(jax.random.key(0), seen=5, actions=2, width=5)
