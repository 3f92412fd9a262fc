"""Other ways to compute the mesa-layer of `layer`: the definition, the paper's, and MesaNet's.

They give the same outputs and gradients where numbers have enough digits, and are here to compare
with: what they cost, and what rounding does to them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float

from lib.mesa.layer import (
    Forgetting,
    Keys,
    Strengths,
    Values,
    check,
    einsum,
    implicit,
    linear_attention,
)


def mesa_reference(
    q: Keys, k: Keys, v: Values, lam: Strengths, gamma: Forgetting | None = None
) -> Float[Array, "N T dv"]:
    """The definition: write down T matrices, solve with each; JAX finds the gradients.

    H_t = gamma_t H_{t-1} + k_t k_t^T from H_0 = I / lam, and o_t = (sum of v k^T) H_t^-1 q_t, the
    sum forgotten alike. Memory grows with T da (da + dv), so this is for tests. The matrices are
    taken one by one: XLA's calls of LAPACK for a batch wait for threads of its own pool, and two of
    them at once, as in the gradients, can wait for ever.

    Raises ValueError as `mesa` does.
    """
    check(q, k, v, lam, gamma)
    q, k, v, lam = map(jnp.asarray, (q, k, v, lam))
    gamma = jnp.ones_like(k[..., 0]) if gamma is None else jnp.asarray(gamma)

    def step(sums, now):
        k, v, kept = now
        h, memory = (kept[:, None, None] * x for x in sums)
        sums = h + k[:, :, None] * k[:, None], memory + v[:, :, None] * k[:, None]
        return sums, sums

    start = jnp.eye(k.shape[2], dtype=k.dtype)[None] / lam[:, None, None]
    nothing = jnp.zeros((len(k), v.shape[2], k.shape[2]), k.dtype)
    _, (h, memory) = lax.scan(step, (start, nothing), _times_first(k, v, gamma))
    q = jnp.moveaxis(q, 1, 0)
    systems = h.reshape(-1, *h.shape[2:]), q.reshape(-1, q.shape[2])
    solved = lax.map(lambda hq: cho_solve((jnp.linalg.cholesky(hq[0]), True), hq[1]), systems)
    return einsum("tned,tnd->nte", memory, solved.reshape(q.shape))


def mesa_sherman_morrison(
    q: Keys, k: Keys, v: Values, lam: Strengths, gamma: Forgetting | None = None
) -> Float[Array, "N T dv"]:
    """The paper's algorithm (App. C): R_t from R_{t-1} by a rank-one update, T times in a row.

    R_t = (R_{t-1} - R_{t-1} k_t k_t^T R_{t-1} / (gamma_t + k_t . R_{t-1} k_t)) / gamma_t from
    R_0 = lam I. Gradients keep R_T only and undo the updates one by one, which is fast to run out
    of digits: in float32 they are wrong for ``lam |k|^2`` of 10,000, where the output still is
    right.

    Raises ValueError as `mesa` does.
    """
    check(q, k, v, lam, gamma)
    q, k, v, lam = map(jnp.asarray, (q, k, v, lam))
    if gamma is None:
        return linear_attention(_solved(q, k, lam, jnp.ones_like(k[..., 0])), k, v)
    solved = _solved(q, k, lam, jnp.asarray(gamma))
    age = jnp.cumsum(jnp.log(jnp.asarray(gamma)), 1)
    left = jnp.exp(jnp.minimum(age[:, :, None] - age[:, None], 0))
    fit = einsum("ntd,nsd->nts", solved, k)
    return einsum("nts,nse->nte", jnp.tril(fit * left), v)


def mesa_cg(
    q: Keys, k: Keys, v: Values, lam: Strengths, *, iterations: int = 30
) -> Float[Array, "N T dv"]:
    """MesaNet's way: conjugate gradients on all T systems at once (arXiv 2506.05233).

    A step applies H_t to a vector, which is a linear attention. Gradients need a second solve, as
    there. Exact after da steps, but for rounding; fewer are enough for well-conditioned keys.

    Raises ValueError as `mesa` does, and if `iterations` < 1.
    """
    check(q, k, v, lam)
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1: steps of the solver")
    return implicit(ConjugateGradients(iterations), *map(jnp.asarray, (q, k, v, lam)))


class ConjugateGradients(NamedTuple):
    """How to get R_t x_t for all t: by steps of Hestenes and Stiefel's method, from zero."""

    iterations: int

    def prepare(self, k, lam):
        return None

    def solve(self, prepared, k, lam, x):
        def step(_, state):
            y, residual, direction, size = state
            moved = direction / lam[:, None, None] + linear_attention(direction, k, k)
            length = size / jnp.maximum(_dot(direction, moved), tiny)
            y = y + length * direction
            residual = residual - length * moved
            smaller = _dot(residual, residual)
            direction = residual + smaller / jnp.maximum(size, tiny) * direction
            return y, residual, direction, smaller

        tiny = jnp.finfo(x.dtype).tiny  # once solved exactly, all that follows is 0 / 0
        start = jnp.zeros_like(x), x, x, _dot(x, x)
        return lax.fori_loop(0, self.iterations, step, start)[0]


@jax.custom_vjp
def _solved(q, k, lam, gamma):
    """R_t q_t for all t, one t after the other."""
    return _steps_forward(q, k, lam, gamma)[0]


def _steps_forward(q, k, lam, gamma):
    def step(inverse, now):
        q, k, gamma = now
        inverse = _update(inverse, k, gamma)
        return inverse, einsum("nde,ne->nd", inverse, q)

    start = lam[:, None, None] * jnp.eye(k.shape[2], dtype=k.dtype)[None]
    last, solved = lax.scan(step, start, _times_first(q, k, gamma))
    return jnp.moveaxis(solved, 0, 1), (q, k, lam, gamma, last)


def _steps_back(saved, dsolved):
    """Undo each update, and send the gradient of R_t through it."""
    q, k, _, gamma, last = saved

    def step(carry, now):
        inverse, dinverse = carry
        q, k, gamma, dsolved = now
        dinverse = dinverse + dsolved[:, :, None] * q[:, None]
        dq = einsum("nde,nd->ne", inverse, dsolved)
        y = einsum("nde,ne->nd", inverse, k)
        shrunk = y / (jnp.sum(k * y, 1, keepdims=True) - 1)
        inverse = gamma[:, None, None] * (inverse - y[:, :, None] * shrunk[:, None])
        dinverse, dk, dgamma = jax.vjp(_update, inverse, k, gamma)[1](dinverse)
        return (inverse, dinverse), (dq, dk, dgamma)

    start = last, jnp.zeros_like(last)
    times = _times_first(q, k, gamma, dsolved)
    (_, first), found = lax.scan(step, start, times, reverse=True)
    dq, dk, dgamma = (jnp.moveaxis(x, 0, 1) for x in found)
    return dq, dk, jnp.trace(first, axis1=1, axis2=2), dgamma


_solved.defvjp(_steps_forward, _steps_back)


def _update(inverse, k, gamma):
    """Sherman and Morrison's formula, with a forget factor."""
    y = einsum("nde,ne->nd", inverse, k)
    shrunk = y / (gamma[:, None] + jnp.sum(k * y, 1, keepdims=True))
    return (inverse - y[:, :, None] * shrunk[:, None]) / gamma[:, None, None]


def _times_first(*arrays):
    return tuple(jnp.moveaxis(x, 1, 0) for x in arrays)


def _dot(x, y):
    return jnp.sum(x * y, -1, keepdims=True)
