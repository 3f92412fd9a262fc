"""What ActionBert is pre-trained on, and what else clicks could be used for.

He et al. (2021), arXiv 2012.12350v2, section 3.2: link component prediction (LCP), consecutive UI
prediction (CUI) and masked text prediction, with weights 1, 0.1 and 0.01. In all three a model sees
screen A, the one before the click, beside screen B, after it. Two other objectives keep B out of
A's sight, so that a component of A must tell alone where it leads.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from lib.actionbert.encoders import TEXT
from lib.actionbert.model import Encoded, Perceptron, UniStream, View, perceptron
from lib.actionbert.screens import Pairs

MASKED = 0.15  # of the texts
SHARPNESS = 10.0  # what cosines are multiplied by before a softmax


class Weights(NamedTuple):
    """Of the three losses; section 3.2."""

    link: float = 1.0
    consecutive: float = 0.1
    masked: float = 0.01


class Metrics(NamedTuple):
    """What a step tells: losses of the three tasks, accuracies of two of them.

    Of the objectives that hide B only `link` and `link_accuracy` are not 0.
    """

    link: Float[Array | np.ndarray, "*steps"]
    consecutive: Float[Array | np.ndarray, "*steps"]
    masked: Float[Array | np.ndarray, "*steps"]
    link_accuracy: Float[Array | np.ndarray, "*steps"]
    consecutive_accuracy: Float[Array | np.ndarray, "*steps"]


class Pretrainer(eqx.Module):
    """An encoder and the heads of all objectives."""

    encoder: UniStream
    link: Perceptron  # of a token: is this the clicked one
    consecutive: Perceptron  # of [CLS]
    masked: Perceptron  # of a text token: the embedding of its text
    leads_to: Perceptron  # of a component: the text of the screen that it opens


def pretrainer(key: PRNGKeyArray, encoder: UniStream) -> Pretrainer:
    """Fresh heads for an encoder."""
    width = len(encoder.last.scale)
    keys = jax.random.split(key, 4)
    inputs, outputs = (width, width, width, 2 * width), (1, 1, TEXT, TEXT)
    heads = (perceptron(k, i, width, o) for k, i, o in zip(keys, inputs, outputs, strict=True))
    return Pretrainer(encoder, *heads)


def link_log_probabilities(
    head: Perceptron, encoded: Encoded, a: View, b: View
) -> Float[Array, "batch components"]:
    """log p(clicked) of each component of A, then of B: a softmax over all their tokens (eq. 1).

    The text token and the picture token of a component are two right answers: their probabilities
    are added.
    """
    width = encoded.cls.shape[1]
    both = jnp.concatenate([encoded.a, encoded.b], 1)
    tokens = jnp.concatenate([both[..., :width], both[..., width:]], 1)
    there = jnp.concatenate([a.present, b.present] * 2, 1)
    log_p = jax.nn.log_softmax(jnp.where(there, head(tokens)[..., 0], -1e9), -1)
    half = log_p.shape[1] // 2
    return jnp.logaddexp(log_p[:, :half], log_p[:, half:])


def masks(key: PRNGKeyArray, present: Bool[Array, "..."]) -> Bool[Array, "..."]:
    """Which texts are masked: 15 % of those that are there (section 3.2)."""
    return (jax.random.uniform(key, present.shape) < MASKED) & present


def paper_loss(
    model: Pretrainer,
    data: View,
    pairs: Pairs,
    key: PRNGKeyArray,
    *,
    weights: Weights = Weights(),  # noqa: B008
) -> tuple[Float[Array, ""], Metrics]:
    """The weighted sum of LCP, CUI and masked text prediction on a batch of pairs of `data`.

    LCP counts where the pair is consecutive and a component was clicked, the mask loss (squared
    error of the embedding) on the 15 % of the texts that are masked.
    """
    a, b = data.take(pairs.a), data.take(pairs.b)
    present = jnp.concatenate([a.present, b.present], 1)
    masked = masks(key, present)
    n = a.present.shape[1]
    some = {"mask_a": masked[:, :n], "mask_b": masked[:, n:]} if weights.masked else {}
    found = model.encoder(a, b, **some)

    log_p = link_log_probabilities(model.link, found, a, b)
    counted = pairs.consecutive & (pairs.clicked >= 0)
    right = jnp.take_along_axis(log_p, jnp.maximum(pairs.clicked, 0)[:, None], 1)[:, 0]
    link = -_mean(right, counted)
    link_accuracy = _mean(_as_float(log_p.argmax(1) == pairs.clicked), counted)

    logit = model.consecutive(found.cls)[:, 0]
    target = _as_float(pairs.consecutive)
    consecutive = optax.sigmoid_binary_cross_entropy(logit, target).mean()
    consecutive_accuracy = _as_float((logit > 0) == pairs.consecutive).mean()

    mask_loss = jnp.zeros(())
    if weights.masked:
        width = found.cls.shape[1]
        tokens = jnp.concatenate([found.a, found.b], 1)[..., :width]
        text = jnp.concatenate([a.text, b.text], 1)
        mask_loss = _mean(jnp.square(model.masked(tokens) - text).sum(-1), masked)
    loss = weights.link * link + weights.consecutive * consecutive + weights.masked * mask_loss
    return loss, Metrics(link, consecutive, mask_loss, link_accuracy, consecutive_accuracy)


def hidden_b_loss(
    model: Pretrainer, data: View, pairs: Pairs, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Metrics]:
    """Tell the screen that a click opened from those that the other clicks of the batch opened.

    Beyond the paper. The model sees A and which component was clicked. What it makes of that
    component is compared, by cosine, with the texts of all next screens; softmax cross-entropy.
    """
    found, counted = _where_it_leads(model, data, pairs), pairs.consecutive & (pairs.clicked >= 0)
    clicked = jnp.maximum(pairs.clicked, 0)[:, None, None]
    clicked = jnp.take_along_axis(found, clicked, 1)[:, 0]
    scores = SHARPNESS * clicked @ _texts(data.take(pairs.b)).T
    log_p = jax.nn.log_softmax(jnp.where(counted[None], scores, -1e9), -1)
    guess = _as_float(log_p.argmax(1) == jnp.arange(len(log_p)))
    return _only_link(-_mean(jnp.diagonal(log_p), counted), _mean(guess, counted))


def two_towers_loss(
    model: Pretrainer, data: View, pairs: Pairs, key: PRNGKeyArray, *, sees_b: bool = False
) -> tuple[Float[Array, ""], Metrics]:
    """LCP in which A's components are encoded without seeing B.

    Beyond the paper: which component of A leads to B, by the cosine of what the model makes of each
    with the text of B. Like `hidden_b_loss`, but the wrong answers are the other components of A,
    not the other screens. The control, `sees_b`, differs in one thing: A is encoded beside B.
    """
    found = _where_it_leads(model, data, pairs, beside=data.take(pairs.b) if sees_b else None)
    counted = pairs.consecutive & (pairs.clicked >= 0)
    scores = SHARPNESS * jnp.einsum("bnd,bd->bn", found, _texts(data.take(pairs.b)))
    log_p = jax.nn.log_softmax(jnp.where(data.present[pairs.a], scores, -1e9), -1)
    right = jnp.take_along_axis(log_p, jnp.maximum(pairs.clicked, 0)[:, None], 1)[:, 0]
    guess = _as_float(log_p.argmax(1) == pairs.clicked)
    return _only_link(-_mean(right, counted), _mean(guess, counted))


@cache
def objective(name: str, weights: Weights = Weights()) -> Any:  # noqa: B008
    """A loss by name; `weights` are for the paper's.

    "paper", "hidden B", "two towers", or "B seen": two towers, but A is encoded beside B.

    The same arguments give the same function, so that steps of training are compiled once.

    Raises ValueError for a name that is not known.
    """
    losses = {
        "paper": partial(paper_loss, weights=weights),
        "hidden B": hidden_b_loss,
        "two towers": two_towers_loss,
        "B seen": partial(two_towers_loss, sees_b=True),
    }
    if name not in losses:
        raise ValueError(f"name={name!r} is not known: use one of {', '.join(losses)}")
    return losses[name]


def plateau(live: Integer[np.ndarray, " pairs"]) -> float:
    """The LCP loss of a model that knows which icons are live and nothing of B: E log(live)."""
    return float(np.log(live).mean())


def _where_it_leads(model, data, pairs, beside=None):
    """For each component of A, a unit vector in the space of texts."""
    found = model.leads_to(model.encoder(data.take(pairs.a), beside).a)
    return found / jnp.sqrt(jnp.square(found).sum(-1, keepdims=True) + 1e-9)


def _texts(screens):
    """The sum of the texts of each screen, as a unit vector."""
    total = jnp.where(screens.present[..., None], screens.text, 0).sum(1)
    return total / jnp.sqrt(jnp.square(total).sum(-1, keepdims=True) + 1e-9)


def _mean(x: Float[Array, "..."], where: Bool[Array, "..."]) -> Float[Array, ""]:
    return jnp.where(where, x, 0).sum() / jnp.maximum(_as_float(where).sum(), 1)


def _only_link(loss, accuracy):
    none = jnp.zeros(())
    return loss, Metrics(loss, none, none, accuracy, none)


def _as_float(x):
    return x.astype(jnp.float32)
