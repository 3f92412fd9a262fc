"""Sequences to predict: dynamical systems, one a sequence, and few-shot regression tasks.

The tasks of von Oswald et al., arXiv 2309.05858v2, those of its appendix E too. Index 0 of the time
axis is the paper's s_1: of T + 1 states, the first T are inputs and the last T what they should
predict. The paper does not say how large the noise is; sigma_h = 0.1 agrees with its figures.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray


class Sequences(NamedTuple):
    """What is observed, and what it comes from."""

    s: Float[Array, "B T1 n_s"]  # T + 1 observed states
    w: Float[Array, "B n_h n_h"]  # the map W* of each sequence


class FewShot(NamedTuple):
    """Tasks y = W x as sequences x_1, y_1, x_2, y_2, ..., one task after the other."""

    s: Float[Array, "B L n"]  # L = 2 * pairs * tasks; even indices are x, odd ones y
    w: Float[Array, "B tasks n n"]


class Teacher(NamedTuple):
    """The fixed network MLP*(h) = B GELU(A h) of nonlinear systems, the same for all sequences."""

    a: Float[Array, "hidden n"]
    b: Float[Array, "n hidden"]

    def __call__(self, h: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
        return jax.nn.gelu(h @ self.a.T) @ self.b.T


def linear(
    key: PRNGKeyArray,
    batch: int,
    *,
    n: int = 10,
    steps: int = 50,
    sigma_h: float = 0.1,
    sigma_s: float = 0.0,
) -> Sequences:
    """Random rotations seen in full: h_{t+1} = W h_t + noise, a new orthogonal W a sequence.

    h_1 ~ N(0, I). The noise of the state has the standard deviation `sigma_h`, that of the
    observation `sigma_s`; `steps` is T.

    Raises ValueError for sizes below 1 and negative noise.
    """
    maps, rest = jax.random.split(key)
    w = _haar(maps, batch, n)
    return _simulate(rest, w, steps=steps, sigma_h=sigma_h, sigma_s=sigma_s)


def partially_observed(
    key: PRNGKeyArray,
    batch: int,
    *,
    n_s: int = 5,
    n_h: int = 15,
    steps: int = 50,
    sigma_h: float = 0.1,
    sigma_s: float = 0.0,
    c_std: float = 0.5,
) -> Sequences:
    """The same seen through a random matrix: s_t = C h_t, a new W and a new C a sequence.

    The entries of C are N(0, 0.5); the axes of the paper's figures favour 0.5 as the standard
    deviation, `c_std`, not the variance.

    Raises ValueError for sizes below 1 and negative noise.
    """
    maps, looks, rest = jax.random.split(key, 3)
    w = _haar(maps, batch, n_h)
    c = c_std * jax.random.normal(looks, (n_s, n_h, batch))
    return _simulate(rest, w, steps=steps, sigma_h=sigma_h, sigma_s=sigma_s, c=c)


def nonlinear(
    key: PRNGKeyArray,
    batch: int,
    teacher: Teacher,
    *,
    steps: int = 50,
    sigma_h: float = 0.1,
    sigma_s: float = 0.0,
    clip: float = 4.0,
) -> Sequences:
    """A fixed network, then a rotation: h_{t+1} = W MLP*(h_t) + noise, a new W a sequence.

    Each state is clipped to [-clip, clip], which the paper does not say: some teachers expand.

    Raises ValueError for sizes below 1, negative noise and a `clip` that is not positive.
    """
    maps, rest = jax.random.split(key)
    w = _haar(maps, batch, len(teacher.b))
    noise = {"sigma_h": sigma_h, "sigma_s": sigma_s}
    return _simulate(rest, w, steps=steps, **noise, teacher=teacher, clip=clip)


def from_pool(
    key: PRNGKeyArray,
    batch: int,
    maps: Float[Array | np.ndarray, "pool n n"],
    *,
    steps: int = 50,
    sigma_h: float = 0.1,
    sigma_s: float = 0.0,
    clip: float | None = None,
) -> Sequences:
    """Linear systems whose maps W are drawn from given ones: contracting, or a fixed teacher.

    Appendix E.1: maps from `contracting_maps` and `clip=2`, which the paper applies to what
    becomes too large. Appendix E.2: one map, so that only h_1 differs.

    Raises ValueError for sizes below 1, negative noise and a `clip` that is not positive.
    """
    which, rest = jax.random.split(key)
    drawn = jax.random.randint(which, (batch,), 0, len(maps))
    w = jnp.moveaxis(jnp.asarray(maps)[drawn], 0, -1)
    return _simulate(rest, w, steps=steps, sigma_h=sigma_h, sigma_s=sigma_s, clip=clip)


def few_shot(
    key: PRNGKeyArray, batch: int, *, n: int = 10, pairs: int = 60, tasks: int = 1
) -> FewShot:
    """Regression tasks y = W x, x ~ N(0, I), W a random rotation; `tasks` of them in a row.

    Raises ValueError for sizes below 1.
    """
    _positive(batch=batch, n=n, pairs=pairs, tasks=tasks)
    maps, inputs = jax.random.split(key)
    w = haar(maps, batch * tasks, n).reshape(batch, tasks, n, n)
    x = jax.random.normal(inputs, (batch, tasks, pairs, n))
    y = jnp.einsum("btij,btpj->btpi", w, x)
    return FewShot(jnp.stack([x, y], 3).reshape(batch, -1, n), w)


def constructed_tokens(s: Float[Array, "B T n"]) -> Float[Array, "B T 4*n"]:
    """Tokens e_t = (0, s_t, s_t, s_{t-1}) with s_0 = 0: Fig. 9. The prediction replaces the 0."""
    return jnp.concatenate([jnp.zeros_like(s), s, s, previous(s)], -1)


def stacked_tokens(s: Float[Array, "B T n"], k: int) -> Float[Array, "B T kn"]:
    """Each state with the k - 1 before it, latest first: what bound tokens know; zeros before s_1.

    Raises ValueError if `k` < 1.
    """
    _positive(k=k)
    parts = [s]
    for _ in range(k - 1):
        parts.append(previous(parts[-1]))
    return jnp.concatenate(parts, -1)


def previous(s: Float[Array, "B T n"]) -> Float[Array, "B T n"]:
    """s_{t-1} in the place of s_t, zeros in the first."""
    return jnp.pad(s, ((0, 0), (1, 0), (0, 0)))[:, :-1]


def haar(key: PRNGKeyArray, batch: int, n: int) -> Float[Array, "B n n"]:
    """Orthogonal matrices from the Haar measure, the uniform distribution over them.

    Products of n - 1 Householder reflections, Stewart (1980), "The efficient generation of random
    orthogonal matrices". It compiles to a long program, good for n up to 20: for more, give
    `from_pool` maps from `scipy.stats.ortho_group`.

    Raises ValueError for sizes below 1.
    """
    return jnp.moveaxis(_haar(key, batch, n), -1, 0)


def teacher(key: PRNGKeyArray, *, n: int = 10, hidden: int = 20, variance: float = 1.1) -> Teacher:
    """Draw the network of nonlinear systems, with entries N(0, variance / inputs).

    The paper says N(0, 1.1), with which states grow without bound, and not how many hidden units.

    Raises ValueError for sizes below 1 and a `variance` that is not positive.
    """
    _positive(n=n, hidden=hidden)
    if variance <= 0:
        raise ValueError(f"variance={variance} must be positive")
    first, second = jax.random.split(key)
    a = np.float32((variance / n) ** 0.5) * jax.random.normal(first, (hidden, n))
    b = np.float32((variance / hidden) ** 0.5) * jax.random.normal(second, (n, hidden))
    return Teacher(a, b)


def contracting_maps(
    rng: np.random.Generator,
    count: int,
    *,
    n: int = 10,
    moduli: tuple[float, float] = (0.3, 0.9),
) -> Float[np.ndarray, "count n n"]:
    """Gaussian matrices whose eigenvalues are moved into a ring: their moduli clipped to `moduli`.

    Appendix E.1; phases and eigenvectors stay. They are far from normal, so that a few sequences
    grow for a while. Drawn on the host, by LAPACK: draw a pool once and use `from_pool`.

    Raises ValueError for sizes below 1 and `moduli` that are no interval of positive numbers.
    """
    _positive(count=count, n=n)
    low, high = moduli
    if not 0 < low <= high:
        raise ValueError(f"moduli={moduli} must be (low, high) with 0 < low <= high")
    values, vectors = np.linalg.eig(rng.normal(size=(count, n, n)))
    size = np.abs(values)
    moved = values * np.clip(size, low, high) / size
    w = np.linalg.solve(vectors.mT, (vectors * moved[:, None]).mT).mT
    return w.real.astype(np.float32)


def _haar(key, batch, n):
    """Haar matrices with the batch last, (n, n, B): loops over n run over whole vectors.

    If Q is Haar in m - 1 dimensions, then H diag(1, Q) is Haar in m, for any orthogonal H whose
    first column is uniform on the sphere.
    """
    _positive(batch=batch, n=n)
    draws = jax.random.normal(key, (n * (n + 1) // 2, batch))
    w = jnp.where(draws[:1, None] < 0, -1.0, 1.0)
    for m in range(2, n + 1):
        x = draws[m * (m - 1) // 2 :][:m]
        sign = jnp.where(x[0] < 0, -1.0, 1.0)
        length = jnp.sqrt((x * x).sum(0))
        # the reflection of e_1 to -sign x / |x|, which loses no digits, then times -sign
        v = x.at[0].add(sign * length)
        w = jnp.pad(w, ((1, 0), (1, 0), (0, 0))).at[0, 0].set(1.0)
        along = (v[:, None] * w).sum(0) / (length * (length + jnp.abs(x[0])))[None]
        w = (v[:, None] * along[None] - w) * sign[None, None]
    return w


def _simulate(key, w, *, steps, sigma_h, sigma_s, c=None, teacher=None, clip=None):
    """Run the systems; `w` (n_h, n_h, B) and `c` (n_s, n_h, B) have the batch last."""
    _positive(steps=steps)
    for name, sigma in (("sigma_h", sigma_h), ("sigma_s", sigma_s)):
        if sigma < 0:
            raise ValueError(f"{name}={sigma} is a standard deviation: it cannot be negative")
    if clip is not None and clip <= 0:
        raise ValueError(f"clip={clip} must be positive: states are kept in [-clip, clip]")
    start, pushes, looks = jax.random.split(key, 3)

    def bound(h):
        return h if clip is None else jnp.clip(h, -clip, clip)

    def step(h, push):
        driven = h if teacher is None else teacher(h.T).T
        after = bound((w * driven[None]).sum(1) + push)
        return after, after

    first = bound(jax.random.normal(start, w.shape[1:]))
    push = sigma_h * jax.random.normal(pushes, (steps, *w.shape[1:]))
    h = jnp.concatenate([first[None], lax.scan(step, first, push)[1]])
    s = h if c is None else (c[None] * h[:, None]).sum(2)
    s = s + sigma_s * jax.random.normal(looks, s.shape) if sigma_s else s
    return Sequences(s.transpose(2, 0, 1), jnp.moveaxis(w, -1, 0))


def _positive(**sizes):
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")
