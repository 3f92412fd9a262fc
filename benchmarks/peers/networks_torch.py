"""The two networks in PyTorch, and one client's local training."""

import numpy as np
import torch
from fedavg_task import BATCH, LR
from torch import nn

torch.set_num_threads(1)


def twonn(weights: list[np.ndarray]) -> nn.Sequential:
    """784-200-200-10."""
    model = nn.Sequential(
        nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
    )
    return start_from(model, [torch.from_numpy(np.array(w.T)) for w in weights])


def cnn(weights: list[np.ndarray]) -> nn.Sequential:
    """Two 5x5 convolutions with pooling, 512 hidden units."""
    model = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10),
    )  # fmt: skip
    tensors = [torch.from_numpy(np.array(w.T)) for w in weights]
    for i in (0, 2):  # ours: (5, 5, channels) in a row, theirs: (channels, 5, 5)
        tensors[i] = tensors[i].reshape(len(tensors[i]), 5, 5, -1).permute(0, 3, 1, 2)
    # ours flattens (row, column, channel), theirs (channel, row, column)
    tensors[4] = tensors[4].reshape(512, 7, 7, 64).permute(0, 3, 1, 2).reshape(512, -1)
    return start_from(model, tensors)


def start_from(model: nn.Module, tensors: list[torch.Tensor]) -> nn.Module:
    """Copy the weights in."""
    with torch.no_grad():
        for own, given in zip(model.parameters(), tensors, strict=True):
            own.copy_(given)
    return model


def train_client(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """One epoch of minibatch SGD, in place."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for rows in torch.randperm(len(x)).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of right answers."""
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()
