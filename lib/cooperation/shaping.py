"""Agents that learn to play with learners: naive ones that learn meanwhile, and one another.

Section 3 of Meulemans et al. (2024), arXiv 2410.18636v2. In a meta-episode an agent plays B copies
of a game with one naive learner, M inner episodes of T steps. After each, the learner takes one
step of A2C on the batch of B. The agent remembers all of its copy, and learns from many
meta-episodes by PPO, with the advantages of `lib.cooperation.estimators`. In a mixed pool it also
meets other agents, which do not learn within a meta-episode: there the copies are independent.

Iteration t draws all its numbers with the key `fold_in(key, t)`, so that a run does not depend on
where it is looked at or interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Integer, Key, PRNGKeyArray, PyTree, Shaped

from lib.cooperation import dilemma, estimators
from lib.cooperation.estimators import Method
from lib.cooperation.policies import Hawk, Tabular

Policy = Tabular | Hawk
Policies = Policy  # one behind the other: their arrays have one more axis
Make = Callable[[PRNGKeyArray], Policy]
AXIS = "meta"  # of a mesh: devices share the meta-episodes
EPSILON = 1e-5  # of Adam
LONGEST = 1.0  # norm of a gradient


class Sizes(NamedTuple):
    """How much is played in one iteration."""

    copies: int = 16  # B
    episodes: int = 20  # M
    steps: int = 10  # T
    learning: int = 128  # meta-episodes of each agent with naive learners
    meeting: int = 0  # and with another agent
    agents: int = 1
    learners: int = 10  # initial parameters that a naive learner may have
    epochs: int = 4  # passes of PPO over what was played
    minibatches: int = 2


class Ppo(NamedTuple):
    """How agents learn; as in the paper for the prisoner's dilemma (Tables 2 to 5)."""

    rate: float | Float[Array | np.ndarray, ""] = 3e-4
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.5
    reward_scale: float = 0.05
    discount: float = 1.0
    lam: float = 1.0  # of values and advantages
    normalise: bool = False  # advantages, over all meta-episodes with the same kind of co-player


class Learning(NamedTuple):
    """How naive learners learn; as in the paper for the prisoner's dilemma (Tables 2 to 5)."""

    rate: float | Float[Array | np.ndarray, ""] = 5e-3
    value_weight: float = 0.5
    reward_scale: float = 0.05
    discount: float = 0.99


DILEMMA, PPO, LEARNING = dilemma.Game(), Ppo(), Learning()


class State(NamedTuple):
    """All that training needs to go on; runs first, then agents or learners."""

    agents: Policies
    moments: PyTree  # the optimiser's memory
    learners: Policies  # as each meta-episode begins
    done: int  # iterations


class Play(NamedTuple):
    """What one of two players saw, did and earned; times, meta-episodes, copies."""

    seen: Shaped[Array, "L N B ..."]
    action: Integer[Array, "L N B"]
    log_prob: Float[Array, "L N B"]
    value: Float[Array, "L N B"]
    reward: Float[Array, "L N B"]


class Record(NamedTuple):
    """Averages over meta-episodes, copies and steps, for each inner episode."""

    reward: Float[Array | np.ndarray, "... M"]
    actions: Float[Array | np.ndarray, "... M A"]  # how often an agent took each action
    other_reward: Float[Array | np.ndarray, "... M"]
    other_actions: Float[Array | np.ndarray, "... M A"]


class History(NamedTuple):
    """What `train` saw between one stop and the next, and where it ended."""

    iterations: Integer[np.ndarray, " stops"]
    learning: Record  # stops, runs, agents, M: with naive learners
    meeting: Record | None  # with other agents
    state: State


def begin(key: Key[Array, " runs"], *, agent: Make, learner: Make, sizes: Sizes) -> State:
    """Where training begins: agents and learners drawn by `agent(key)` and `learner(key)`.

    Raises ValueError if sizes do not fit each other.
    """
    _check_sizes(sizes)
    return State(*_begin(key, agent=agent, learner=learner, sizes=sizes), 0)


def train(
    state: State,
    *,
    key: Key[Array, " runs"],
    method: Method,
    sizes: Sizes,
    at: Sequence[int],
    game: Any = DILEMMA,
    ppo: Ppo = PPO,
    learning: Learning = LEARNING,
    mesh: Mesh | None = None,
    progress: Any = None,
) -> History:
    """Train agents for at[-1] iterations in all; records are averages from stop to stop.

    All runs go side by side, each with its own key and its own flags of `method` (arrays with one
    for each run): one compiled program serves all methods, and any settings of the same `sizes`.
    To go on, `state` is that of an earlier history.

    The devices of `mesh`, with an axis "meta", share the meta-episodes; but for rounding, nothing
    depends on how many there are. `progress` is a tqdm bar or None.

    Raises ValueError if `at` does not rise from the iterations already done, if sizes do not fit
    each other or the mesh, if there is not one method for each run, and if a discount, `lam` or a
    rate makes no sense.
    """
    _check_sizes(sizes)
    _check_settings(ppo, learning)
    at = [int(stop) for stop in at]
    if not at or at != sorted(set(at)) or at[0] <= state.done:
        raise ValueError(
            f"at={at} must be iterations that rise, after {state.done}: those are done"
        )
    method = Method(*map(jnp.asarray, method))
    if any(flag.shape != key.shape for flag in method):
        shapes = [flag.shape for flag in method]
        raise ValueError(f"method has flags of shapes {shapes}: give one for each of {key.shape}")
    if mesh is not None and sizes.learning % mesh.size:
        raise ValueError(f"learning={sizes.learning} must be shared by {mesh.size} devices")
    now, done, records = state[:3], state.done, []
    for stop in at:
        now, record = _advance(
            now, key, method, ppo, learning, done, stop, sizes=sizes, game=game, mesh=mesh
        )
        records.append(jax.tree.map(np.asarray, record))
        if progress is not None:
            progress.update(stop - done)
            progress.set_postfix(reward=f"{records[-1][0].reward.mean():.3f}")
        done = stop
    together = jax.tree.map(lambda *x: np.stack(x), *records)
    return History(np.array(at), *together, State(*now, done))


def side_by_side(
    names: Sequence[str], keys: Key[Array, " seeds"]
) -> tuple[Method, Key[Array, " runs"]]:
    """Flags and keys for all methods with all seeds: methods first, each with the same keys.

    Raises ValueError for an unknown method.
    """
    flags = [estimators.method(name) for name in names]
    method = Method(*(np.repeat(np.stack(flag), len(keys)) for flag in zip(*flags, strict=True)))
    return method, jnp.tile(keys, len(names))


def meet_learners(
    agent: Policy,
    learners: Policies,
    key: PRNGKeyArray,
    *,
    sizes: Sizes,
    game: Any = DILEMMA,
    learning: Learning = LEARNING,
    mesh: Mesh | None = None,
) -> tuple[Play, Play, Policies]:
    """Play one meta-episode with each learner: what the agent and what they did, what they became.

    Memory: the agent's goes through all of a meta-episode, a learner's begins anew in each inner
    episode.
    """
    n, copies = len(jax.tree.leaves(learners)[0]), sizes.copies
    optimiser = _optimiser(learning.rate)
    prepared = agent.prepare()
    learners = _shared(learners, mesh, PartitionSpec(AXIS))

    def grouped(x):
        return x.reshape(n, copies, *x.shape[1:])

    def episode(carry, key):
        memory, learners, moments = carry
        tables = jax.vmap(lambda learner: learner.prepare())(learners)

        def theirs(memory, seen, uniform):
            each = jax.vmap(lambda learner, *given: learner.act(*given))
            move = each(learners, tables, memory, grouped(seen), grouped(uniform))
            return move._replace(
                action=move.action.ravel(), log_prob=move.log_prob.ravel(), value=move.value.ravel()
            )

        fresh = jax.vmap(lambda learner: learner.start(copies))(learners)
        players = partial(agent.act, prepared), theirs
        (memory, _), plays = _episode(
            key, players, (memory, fresh), n=n * copies, sizes=sizes, game=game, mesh=mesh
        )
        mine, other = (jax.tree.map(lambda x: x.reshape(x.shape[0], n, copies, *x.shape[2:]), p)
                       for p in plays)  # fmt: skip
        learners, moments = _learn(learners, moments, other, optimiser, learning)
        return (memory, learners, moments), (mine, other)

    start = agent.start(n * copies), learners, jax.vmap(optimiser.init)(learners)
    (_, learners, _), plays = lax.scan(episode, start, jax.random.split(key, sizes.episodes))
    mine, theirs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), plays)
    return mine, theirs, learners


def meet_agent(
    first: Policy,
    second: Policy,
    key: PRNGKeyArray,
    *,
    sizes: Sizes,
    game: Any = DILEMMA,
    mesh: Mesh | None = None,
) -> tuple[Play, Play]:
    """Play `sizes.meeting` meta-episodes of two agents, none of which learns meanwhile."""
    n = sizes.meeting * sizes.copies
    players = tuple(partial(agent.act, agent.prepare()) for agent in (first, second))

    def episode(memories, key):
        return _episode(key, players, memories, n=n, sizes=sizes, game=game, mesh=mesh)

    memories = first.start(n), second.start(n)
    plays = lax.scan(episode, memories, jax.random.split(key, sizes.episodes))[1]
    return jax.tree.map(lambda x: x.reshape(-1, sizes.meeting, sizes.copies, *x.shape[3:]), plays)


class Batch(NamedTuple):
    """What an agent learns from, with the advantage of each action and the target of each value."""

    play: Play
    advantage: Float[Array, "L N B"]
    target: Float[Array, "L N B"]


@partial(jax.jit, static_argnames=("agent", "learner", "sizes"))
def _begin(key, *, agent, learner, sizes):
    """Agents, their moments and learners for each key."""

    def one(key):
        keys = jax.random.split(key)
        agents = jax.vmap(agent)(jax.random.split(keys[0], sizes.agents))
        moments = jax.vmap(_optimiser(0.0).init)(agents)
        return agents, moments, jax.vmap(learner)(jax.random.split(keys[1], sizes.learners))

    return jax.vmap(one)(key)


@partial(jax.jit, static_argnames=("sizes", "game", "mesh"))
def _advance(now, key, method, ppo, learning, done, stop, *, sizes, game, mesh):
    """The state after the iterations done + 1 .. stop, and the averages over them."""
    iteration = partial(_iteration, ppo, learning, sizes=sizes, game=game, mesh=mesh)

    def body(t, carry):
        now, total = carry
        keys = jax.vmap(partial(jax.random.fold_in, data=t))(key)
        now, record = jax.vmap(iteration)(now, keys, method)
        return now, jax.tree.map(jnp.add, total, record)

    shapes = jax.eval_shape(jax.vmap(iteration), now, key, method)[1]
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    now, total = lax.fori_loop(done, stop, body, (now, nothing))
    return now, jax.tree.map(lambda x: x / (stop - done), total)


def _iteration(ppo, learning, now, key, method, *, sizes, game, mesh):
    """Each agent plays with learners and with another agent, and learns from both."""
    agents, moments, learners = now
    keys = jax.random.split(key, 5)
    which = jax.random.randint(keys[0], (sizes.agents, sizes.learning), 0, sizes.learners)
    chosen = jax.tree.map(lambda x: x[which], learners)
    setting = {"sizes": sizes, "game": game, "mesh": mesh}
    mine, theirs, _ = jax.vmap(partial(meet_learners, learning=learning, **setting))(
        agents, chosen, jax.random.split(keys[1], sizes.agents)
    )
    record = jax.vmap(partial(_record, sizes=sizes, game=game))
    records = record(mine, theirs), None
    batch = jax.vmap(partial(_batch, method, ppo, sizes))(mine)
    if sizes.meeting:
        mine, theirs = _meetings(agents, keys[2], keys[3], setting)
        records = records[0], record(mine, theirs)
        alone = estimators.method("unaware")
        batches = batch, jax.vmap(partial(_batch, alone, ppo, sizes))(mine)
        batch = jax.tree.map(lambda *x: jnp.concatenate(x, 2), *batches)
    agents, moments = jax.vmap(partial(_improve, ppo, sizes))(
        agents, moments, batch, jax.random.split(keys[4], sizes.agents)
    )
    return (agents, moments, learners), records


def _meetings(agents, pair_key, play_key, setting):
    """Agents meet in random pairs; what each did, and what its co-player did."""
    count = setting["sizes"].agents
    order = jax.random.permutation(pair_key, count)
    sides = (order[: count // 2], order[count // 2 :])
    pairs = [jax.tree.map(lambda x, side=side: x[side], agents) for side in sides]
    plays = jax.vmap(partial(meet_agent, **setting))(*pairs, jax.random.split(play_key, count // 2))
    place = jnp.argsort(order)

    def by_agent(first, second):
        return jax.tree.map(lambda *x: jnp.concatenate(x)[place], first, second)

    return by_agent(*plays), by_agent(*plays[::-1])


def _episode(key, players, memories, *, n, sizes, game, mesh):
    """One inner episode of n games; memories afterwards, and what both players did."""
    reset_key, draw_key = jax.random.split(key)
    uniform = jax.random.uniform(draw_key, (sizes.steps, 2 + game.draws, n))
    uniform = _shared(uniform, mesh, PartitionSpec(None, None, AXIS))

    def step(carry, u):
        state, memories = carry
        seen = game.observe(state)
        moves = [act(*given) for act, *given in zip(players, memories, seen, u[:2], strict=True)]
        after = game.step(state, moves[0].action, moves[1].action, u[2:])
        plays = [
            Play(s, move.action, move.log_prob, move.value, reward)
            for s, move, reward in zip(seen, moves, after.rewards, strict=True)
        ]
        return (after.state, tuple(move.memory for move in moves)), tuple(plays)

    start = game.reset(reset_key, n), memories
    (_, memories), plays = lax.scan(step, start, uniform)
    return memories, plays


def _learn(learners, moments, play, optimiser, learning):
    """One step of A2C for each learner, on its batch of the inner episode."""
    rewards = play.reward * learning.reward_scale
    returns = estimators.value_targets(
        rewards, jnp.zeros_like(rewards), steps=len(rewards), discount=learning.discount, lam=1.0
    )

    def loss(learner, seen, action, returns):
        judged = learner.judge(seen, action)
        better = lax.stop_gradient(_normalised(returns - judged.value))
        wrong = jnp.square(judged.value - returns).mean()
        return learning.value_weight * wrong - (judged.log_prob * better).mean()

    slope = jax.vmap(jax.grad(loss), (0, 1, 1, 1))(learners, play.seen, play.action, returns)
    return jax.vmap(partial(_step, optimiser))(slope, moments, learners)


def _batch(method, ppo, sizes, play):
    """Advantages and targets for what an agent played with one kind of co-player."""
    # PPO takes a mean over all games, which is 1 / B of the sum over copies
    factor = sizes.copies * estimators.outer_factor(method, sizes.copies)
    rewards = play.reward * ppo.reward_scale
    setting = {"steps": sizes.steps, "discount": ppo.discount, "lam": ppo.lam}
    advantage = estimators.advantages(rewards, play.value, method, **setting) * factor
    advantage = jnp.where(ppo.normalise, _normalised(advantage), advantage)
    return Batch(play, advantage, estimators.value_targets(rewards, play.value, **setting))


def _improve(ppo, sizes, agent, moments, batch, key):
    """Some epochs of PPO on what was played."""
    optimiser = _optimiser(ppo.rate)

    def loss(agent, batch):
        play, advantage, target = jax.tree.map(
            lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), batch
        )
        judged = agent.judge(play.seen, play.action)
        ratio = jnp.exp(judged.log_prob - play.log_prob)
        kept = jnp.clip(ratio, 1 - ppo.clip, 1 + ppo.clip)
        gain = jnp.minimum(ratio * advantage, kept * advantage).mean()
        near = play.value + jnp.clip(judged.value - play.value, -ppo.value_clip, ppo.value_clip)
        wrong = jnp.maximum(jnp.square(judged.value - target), jnp.square(near - target)).mean()
        return ppo.value_weight * wrong / 2 - gain

    def minibatch(carry, which):
        agent, moments = carry
        slope = jax.grad(loss)(agent, jax.tree.map(lambda x: x[:, which], batch))
        return _step(optimiser, slope, moments, agent), None

    def epoch(carry, key):
        order = jax.random.permutation(key, batch.target.shape[1])
        return lax.scan(minibatch, carry, order.reshape(sizes.minibatches, -1))

    keys = jax.random.split(key, sizes.epochs)
    return lax.scan(lambda carry, key: (epoch(carry, key)[0], None), (agent, moments), keys)[0]


def _record(mine, theirs, *, sizes, game):
    """Rewards and actions of two players by inner episode."""

    def averages(play):
        action = play.action.reshape(sizes.episodes, -1)
        shares = [(action == a).mean(1, dtype=jnp.float32) for a in range(game.actions)]
        return play.reward.reshape(sizes.episodes, -1).mean(1), jnp.stack(shares, 1)

    return Record(*averages(mine), *averages(theirs))


def _optimiser(rate):
    return optax.chain(optax.clip_by_global_norm(LONGEST), optax.adam(rate, eps=EPSILON))


def _step(optimiser, slope, moments, policy):
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to a count of steps
        change, moments = optimiser.update(slope, moments, policy)
    return optax.apply_updates(policy, change), moments


def _normalised(x):
    return (x - x.mean()) / (x.std() + 1e-8)


def _shared(tree, mesh, spec):
    """The same arrays, one part on each device of the mesh."""
    if mesh is None:
        return tree
    return lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))


def _check_sizes(sizes):
    for name, size in sizes._asdict().items():
        if size < (0 if name == "meeting" else 1):
            raise ValueError(f"{name}={size} must be at least {int(name != 'meeting')}")
    if sizes.meeting and sizes.agents % 2:
        raise ValueError(f"agents={sizes.agents} must be even: agents meet in pairs")
    if (sizes.learning + sizes.meeting) % sizes.minibatches:
        raise ValueError(
            f"minibatches={sizes.minibatches} must divide learning + meeting = "
            f"{sizes.learning + sizes.meeting} meta-episodes"
        )


def _check_settings(ppo, learning):
    shares = {
        "ppo.discount": ppo.discount, "ppo.lam": ppo.lam, "learning.discount": learning.discount
    }  # fmt: skip
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name}={share} must lie in [0, 1]")
    for name, rate in (("ppo.rate", ppo.rate), ("learning.rate", learning.rate)):
        if not rate > 0:
            raise ValueError(f"{name}={rate} must be positive")
