"""The mesa-layer in JAX: `ours_mesa.py FOLDER FORM output|gradient`, FORM as in FORMS."""

import sys
from functools import partial

import jax
from arrays import mean_size
from mesa_task import Task

from lib.mesa import alternatives, layer

FORMS = {
    "innovations": layer.mesa,
    "refined": partial(layer.mesa, refine=1),
    "sherman_morrison": alternatives.mesa_sherman_morrison,
    "cg": alternatives.mesa_cg,
    "definition": alternatives.mesa_reference,
    "linear": lambda q, k, v, lam: layer.linear_attention(q, k, v),
}


def with_gradients(form, w, *arguments):
    """The output, and the gradients in the direction w."""
    o, pull = jax.vjp(form, *arguments)
    return o, *pull(w)


if __name__ == "__main__":
    from meter import Meter  # from now on only it writes to the standard output

    task = Task()
    form = FORMS[sys.argv[2]]
    arguments = jax.device_put((task.q, task.k, task.v, task.lam))
    both = jax.jit(partial(with_gradients, form))
    only = jax.jit(form)
    meter = Meter("jax")
    while meter.again(lambda: mean_size(both(task.w, *arguments)[2])):
        if sys.argv[3] == "output":
            jax.block_until_ready(only(*arguments))
        else:
            jax.block_until_ready(both(task.w, *arguments))
