"""The mesa-layer: attention that answers with the best linear fit of values to keys so far.

At each time t it solves a ridge regression on all that came before, as in
von Oswald et al. (2024), arXiv 2309.05858v2:

    ``Phi_t = argmin_Phi  sum_{i<=t} |v_i - Phi k_i|^2 / 2 + |Phi|^2 / (2 lam),  o_t = Phi_t q_t``

which is o_t = sum_{i<=t} v_i (k_i . R_t q_t) with R_t = (sum_{i<=t} k_i k_i^T + I / lam)^-1. The
paper updates R_t step by step. Here all times are solved at once: R_t = lam I - sum_{i<=t} e_i
e_i^T with the innovations e_i below, so R_t q_t is a linear attention too, and so is each gradient.

Sequences come first: one of the N is one head of one example. Other ways to compute the same are
in `alternatives`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Keys = Float[Array | np.ndarray, "N T da"]  # or queries
Values = Float[Array | np.ndarray, "N T dv"]
Strengths = Float[Array | np.ndarray, " N"]  # lam: how weakly each regression is regularised
Forgetting = Float[Array | np.ndarray, "N T"]  # gamma, in (0, 1]
BLOCK = 64  # times that see each other one by one; earlier ones come as a sum
LONG = 64  # da from which R_t is too large to go through it for each key

einsum = partial(jnp.einsum, precision="highest")  # a GPU would round products to 10 bits


def linear_attention(q: Keys, k: Keys, v: Values) -> Float[Array, "N T dv"]:
    """Answer each query with all values so far, each weighted by how well its key fits.

    o_t = sum_{i<=t} v_i (k_i . q_t): attention without softmax, linear in T.

    Raises ValueError if shapes do not fit.
    """
    check(q, k, v)
    return _forward_in_time(*map(jnp.asarray, (q, k, v)))


def softmax_attention(q: Keys, k: Keys, v: Values) -> Float[Array, "N T dv"]:
    """Answer each query with a mean of the values so far: weights softmax_i(k_i . q_t / sqrt(da)).

    Raises ValueError if shapes do not fit.
    """
    check(q, k, v)
    scores = einsum("ntd,nsd->nts", q, k) / np.float32(np.sqrt(q.shape[2]))
    seen = jnp.tri(q.shape[1], dtype=bool)[None]
    return einsum("nts,nse->nte", jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)), v)


def mesa(
    q: Keys,
    k: Keys,
    v: Values,
    lam: Strengths,
    gamma: Forgetting | None = None,
    *,
    chunk: int | None = None,
    refine: int = 0,
) -> Float[Array, "N T dv"]:
    """Answer each query with the ridge regression of the values so far on their keys.

    o_t as above, for all times in parallel. For lam -> 0 it is lam times linear attention.
    `gamma` are forget factors as in App. C: step t multiplies all that came before by gamma_t, the
    regulariser 1 / lam included, which in MesaNet (arXiv 2506.05233) stays.

    `chunk` keys are taken in together, see `innovations`: it changes the speed, not the result.
    Float32 loses digits as ``lam |k|^2`` or, with `gamma`, lam / (gamma_1 .. gamma_T) grows. One
    step of `refine` wins back what a solver with H_t itself would have, for half as much work
    again. Gradients come in reverse mode only, by the implicit function theorem.

    Raises ValueError if shapes do not fit, `chunk` < 1, `refine` < 0, and if lam <= 0 or gamma is
    outside (0, 1], unless jit hides their values.
    """
    check(q, k, v, lam, gamma)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1: how many keys to take in together")
    if refine < 0:
        raise ValueError(f"refine={refine} must be at least 0: how often to refine the solution")
    q, k, v, lam = map(jnp.asarray, (q, k, v, lam))
    if gamma is not None:
        k, v = remembered(k, v, gamma)
    return implicit(Innovations(chunk, refine), q, k, v, lam)


def innovations(k: Keys, lam: Strengths, *, chunk: int | None = None) -> Float[Array, "N T da"]:
    """What each key adds to those before it: e_t = R_{t-1} k_t / sqrt(1 + k_t . R_{t-1} k_t).

    Sherman and Morrison's formula says R_t = R_{t-1} - e_t e_t^T. The e of a chunk with keys K
    solve one triangular system: with Y = K R and the Cholesky factor I + Y K^T = L L^T they are
    the rows of L^-1 Y. By default chunks have 1 key, or 16 if da is at least LONG: then it pays
    to go through R less often.
    """
    k, lam = jnp.asarray(k), jnp.asarray(lam)
    chunk = chunk or (16 if k.shape[2] >= LONG else 1)
    start = lam[:, None, None] * jnp.eye(k.shape[2], dtype=k.dtype)[None]
    unit = jnp.broadcast_to(jnp.eye(chunk, dtype=k.dtype), (len(k), chunk, chunk))

    def step(inverse, own):
        y = einsum("ntd,nde->nte", own, inverse)
        gram = unit + einsum("ntd,nsd->nts", y, own)
        e = _eliminate(jnp.concatenate([gram, y], 2))
        return inverse - einsum("ntd,nte->nde", e, e), e

    parts = jnp.moveaxis(_in_blocks(k, chunk), 1, 0)
    return _joined(jnp.moveaxis(lax.scan(step, start, parts)[1], 0, 1), k.shape[1])


def remembered(
    k: Keys, v: Values, gamma: Forgetting
) -> tuple[Float[Array, "N T da"], Float[Array, "N T dv"]]:
    """Keys and values whose plain mesa-layer is that of k and v with forget factors gamma.

    With G_t = gamma_1 .. gamma_t they are k_t / sqrt(G_t) and v_t / sqrt(G_t): forgetting
    multiplies sum v k^T by G_t and divides R_t by it, which cancels.
    """
    grown = jnp.exp(-0.5 * jnp.cumsum(jnp.log(jnp.asarray(gamma)), 1))[..., None]
    return k * grown, v * grown


# One step after the other -----------------------------------------------------------------------


class MesaState(NamedTuple):
    """All that the mesa-layer keeps of the past: its size does not grow with time."""

    inverse: Float[Array, "N da da"]  # R_t
    memory: Float[Array, "N dv da"]  # sum of v_i k_i^T


class Decoded(NamedTuple):
    """The state after a step, and the layer's output at that step."""

    state: MesaState
    o: Float[Array, "N dv"]


def mesa_decode_start(
    k: Keys, v: Values, lam: Strengths, gamma: Forgetting | None = None
) -> MesaState:
    """The state after a prompt of T keys and values; T may be 0.

    Raises ValueError as `mesa` does.
    """
    check(k, k, v, lam, gamma)
    k, v, lam = map(jnp.asarray, (k, v, lam))
    left = jnp.ones_like(lam)[:, None, None]
    if gamma is not None:
        k, v = remembered(k, v, gamma)
        left = jnp.prod(gamma, 1)[:, None, None]
    e = innovations(k, lam)
    first = lam[:, None, None] * jnp.eye(k.shape[2], dtype=k.dtype)[None]
    inverse = (first - einsum("ntd,nte->nde", e, e)) / left
    return MesaState(inverse, left * einsum("nte,ntd->ned", v, k))


def mesa_decode_step(
    state: MesaState,
    q: Float[Array | np.ndarray, "N da"],
    k: Float[Array | np.ndarray, "N da"],
    v: Float[Array | np.ndarray, "N dv"],
    gamma: Float[Array | np.ndarray, " N"] | None = None,
) -> Decoded:
    """Take in one more key and value, then answer one query: what `mesa` does at time t."""
    q, k, v = map(jnp.asarray, (q, k, v))
    inverse, memory = state
    if gamma is not None:
        kept = jnp.asarray(gamma)[:, None, None]
        inverse, memory = inverse / kept, memory * kept
    y = einsum("nde,ne->nd", inverse, k)
    e = y * lax.rsqrt(1 + jnp.sum(y * k, 1, keepdims=True))
    inverse = inverse - e[:, :, None] * e[:, None]
    memory = memory + v[:, :, None] * k[:, None]
    return Decoded(
        MesaState(inverse, memory), einsum("ned,nd->ne", memory, einsum("nde,ne->nd", inverse, q))
    )


# The solution and its gradients -----------------------------------------------------------------


class Innovations(NamedTuple):
    """How to get R_t x_t for all t: by innovations, found once for a layer and its gradients."""

    chunk: int | None
    refine: int

    def prepare(self, k, lam):
        return innovations(k, lam, chunk=self.chunk)

    def solve(self, e, k, lam, x):
        def approximate(x):
            return lam[:, None, None] * x - _forward_in_time(x, e, e)

        y = approximate(x)
        for _ in range(self.refine):
            y = y + approximate(x - y / lam[:, None, None] - _forward_in_time(y, k, k))
        return y


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def implicit(solver, q, k, v, lam):
    """The mesa-layer with R_t q_t from `solver`, and gradients that need no steps in time."""
    return _forward(solver, q, k, v, lam)[0]


def _forward(solver, q, k, v, lam):
    prepared = solver.prepare(k, lam)
    solved = solver.solve(prepared, k, lam, q)
    return _forward_in_time(solved, k, v), (prepared, solved, k, v, lam)


def _implicit_gradients(solver, saved, do):
    """Gradients by a second solve: with a_t = sum_{i<=t} k_i (v_i . do_t), dq_t = R_t a_t.

    Since dR = -R (dH) R for H = R^-1, the rest are sums over later times of products of do,
    dq and R_t q_t.
    """
    prepared, solved, k, v, lam = saved
    dq = solver.solve(prepared, k, lam, _forward_in_time(do, v, k))
    dv = _backward_in_time(k, solved, do)
    dk = (
        _backward_in_time(v, do, solved)
        - _backward_in_time(k, dq, solved)
        - _backward_in_time(k, solved, dq)
    )
    inverse = 1 / lam[:, None, None]
    return dq, dk, dv, jnp.sum((dq * inverse) * (solved * inverse), (1, 2))


implicit.defvjp(_forward, _implicit_gradients)


def _forward_in_time(q, k, v):
    """sum_{i<=t} v_i (k_i . q_t): in blocks, so that work and memory grow with T, not T^2."""
    steps = q.shape[1]
    if steps <= BLOCK:
        return einsum("nts,nse->nte", jnp.tril(einsum("ntd,nsd->nts", q, k)), v)
    q, k, v = (_in_blocks(x, BLOCK) for x in (q, k, v))
    before = jnp.cumsum(einsum("nctd,ncte->ncde", k, v)[:, :-1], 1)
    before = jnp.pad(before, ((0, 0), (1, 0), (0, 0), (0, 0)))
    near = einsum("ncts,ncse->ncte", jnp.tril(einsum("nctd,ncsd->ncts", q, k)), v)
    return _joined(near + einsum("nctd,ncde->ncte", q, before), steps)


def _backward_in_time(q, k, v):
    """sum_{i>=t} v_i (k_i . q_t)."""
    steps = q.shape[1]
    if steps <= BLOCK:
        return einsum("nst,nse->nte", jnp.tril(einsum("nsd,ntd->nst", k, q)), v)
    q, k, v = (_in_blocks(x, BLOCK) for x in (q, k, v))
    after = jnp.cumsum(einsum("nctd,ncte->ncde", k, v)[:, :0:-1], 1)[:, ::-1]
    after = jnp.pad(after, ((0, 0), (0, 1), (0, 0), (0, 0)))
    near = einsum("ncst,ncse->ncte", jnp.tril(einsum("ncsd,nctd->ncst", k, q)), v)
    return _joined(near + einsum("nctd,ncde->ncte", q, after), steps)


def _eliminate(system):
    """L^-1 Y from [S | Y], with S = L L^T: half of the rows first, then what they leave.

    XLA's own Cholesky on a CPU calls LAPACK for each matrix: slower, and in large batches it has
    been seen to hang.
    """
    rows = system.shape[1]
    if rows == 1:
        return system[:, :, 1:] * lax.rsqrt(system[:, :, :1])
    half = rows // 2
    upper = _eliminate(system[:, :half])
    rest = system[:, half:, half:] - einsum("nts,nte->nse", upper[:, :, : rows - half], upper)
    return jnp.concatenate([upper[:, :, rows - half :], _eliminate(rest)], 1)


def _in_blocks(x, size):
    """(N, T, d) as (N, blocks, size, d), zeros at the end: keys of zero change nothing."""
    n, steps, d = x.shape
    blocks = -(-steps // size)
    return jnp.pad(x, ((0, 0), (0, blocks * size - steps), (0, 0))).reshape(n, blocks, size, d)


def _joined(x, steps):
    """Undo `_in_blocks`."""
    n, blocks, size, d = x.shape
    return x.reshape(n, blocks * size, d)[:, :steps]


def check(q, k, v, lam=None, gamma=None):
    """Raise ValueError if the arguments of a mesa-layer do not fit, or are seen to be no good."""
    if np.ndim(k) != 3 or np.shape(q) != np.shape(k):
        raise ValueError(
            f"q has shape {np.shape(q)}, k {np.shape(k)}: both must be (N, T, da), heads first"
        )
    if np.ndim(v) != 3 or np.shape(v)[:2] != np.shape(k)[:2]:
        raise ValueError(
            f"v has shape {np.shape(v)}, k {np.shape(k)}: v must be (N, T, dv), N and T as in k"
        )
    if lam is not None and np.shape(lam) != np.shape(k)[:1]:
        raise ValueError(f"lam has shape {np.shape(lam)}: give one for each of N = {len(k)} heads")
    if gamma is not None and np.shape(gamma) != np.shape(k)[:2]:
        raise ValueError(f"gamma has shape {np.shape(gamma)}: give (N, T) = {np.shape(k)[:2]}")
    if (bad := _seen(lam, lambda x: x > 0)) is not None:
        raise ValueError(f"lam has {bad}: it must be positive, so learn its logarithm")
    if (bad := _seen(gamma, lambda x: (x > 0) & (x <= 1))) is not None:
        raise ValueError(f"gamma has {bad}, outside (0, 1]: 1 forgets nothing")


def _seen(x, good):
    """The first value of x that is not good, if there is x and jit does not hide it."""
    if x is None or isinstance(x, jax.core.Tracer):
        return None
    x = np.asarray(x)
    return next(iter(x[~good(x)]), None)
