"""The same gradient in PyTorch, by autograd of autograd: `plain_torch_shaping.py FOLDER`.

The formulation of exact LOLA in PyTorch: torch.linalg.solve, and steps with create_graph.
"""

import torch
from arrays import mean_size
from games_task import PAYOFF, SWAPPED
from meter import Meter
from shaping_task import EPISODES, GAMMA, RATE, REPEATS, Task

torch.set_num_threads(1)
task = Task()
player = torch.from_numpy(task.player).requires_grad_()
start = torch.from_numpy(task.learner)
payoff, eye = torch.from_numpy(PAYOFF), torch.eye(4)


def average(own, other):
    """What the first of two players gets, for each pair."""
    p, q = torch.sigmoid(own), torch.sigmoid(other)[:, SWAPPED]
    outcomes = torch.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], 2)
    values = torch.linalg.solve(eye - GAMMA * outcomes[:, 1:], payoff.expand(len(p), 4))
    return (1 - GAMMA) * (outcomes[:, 0] * values).sum(1)


def gradients():
    learner, total = start.clone().requires_grad_(), average(player, start)
    for _ in range(EPISODES):
        got = average(learner, player).sum()
        learner = learner + RATE * torch.autograd.grad(got, learner, create_graph=True)[0]
        total = total + average(player, learner)
    return torch.autograd.grad(total.sum() / (EPISODES + 1), player)[0]


meter = Meter("torch")
while meter.again(lambda: mean_size(gradients())):
    for _ in range(REPEATS):
        gradients()
