"""The mesa-layer in PyTorch: `plain_torch_mesa.py FOLDER plain|fla output|gradient`.

"plain": all T matrices at once, torch.linalg.solve. "fla": the reference of flash-linear-attention,
naive_mesa_net_exact, which is there to be right, not fast; its fast kernels need a GPU.
"""

import sys

import torch
from arrays import mean_size
from mesa_task import Task
from meter import Meter

torch.set_num_threads(1)
task = Task()
w = torch.from_numpy(task.w)
arguments = [torch.from_numpy(x).requires_grad_() for x in (task.q, task.k, task.v, task.lam)]


def plain(q, k, v, lam):
    eye = torch.eye(k.shape[2])
    h = (k[..., :, None] * k[..., None, :]).cumsum(1) + eye / lam[:, None, None, None]
    solved = torch.linalg.solve(h, q[..., None])[..., 0]
    return torch.tril(solved @ k.mT) @ v


def fla(q, k, v, lam):
    from fla.ops.mesa_net.naive import naive_mesa_net_exact

    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # one example, N heads, heads third
    nothing, ones = torch.zeros(q.shape[:3]), torch.ones(q.shape[:3])
    strength = (1 / lam)[:, None].expand(-1, q.shape[3])
    o = naive_mesa_net_exact(q, k, v, nothing, strength, ones)[0]
    return o[0].transpose(0, 1)


form = {"plain": plain, "fla": fla}[sys.argv[2]]


def gradients():
    return torch.autograd.grad((form(*arguments) * w).sum(), arguments)


if sys.argv[2] == "fla":
    form(*(x[:1, :2] if x.ndim == 3 else x[:1] for x in arguments))  # absent: said at once
meter = Meter("torch")
while meter.again(lambda: mean_size(gradients()[1])):
    if sys.argv[3] == "output":
        with torch.no_grad():
            form(*arguments)
    else:
        gradients()
