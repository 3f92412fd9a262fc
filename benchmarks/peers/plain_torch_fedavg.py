"""A plain loop over clients in PyTorch: `plain_torch_fedavg.py DATA`."""

import copy

import numpy as np
import torch
from fedavg_task import CHOSEN, Task, choose, flat
from meter import Meter
from networks_torch import accuracy, train_client, twonn

data = Task()
x = torch.from_numpy(flat(data.x)).reshape(len(data.x), -1, 784)
y = torch.from_numpy(data.y.astype(np.int64))
test = torch.from_numpy(flat(data.test_x)), torch.from_numpy(data.test_y.astype(np.int64))
model, client = (twonn(data.weights("twonn")) for _ in range(2))
rng = np.random.default_rng(0)
meter = Meter("torch")
while meter.again(lambda: accuracy(model, *test)):
    start = copy.deepcopy(model.state_dict())
    mean = {name: torch.zeros_like(w) for name, w in start.items()}
    for k in choose(rng):  # all clients hold as many examples: each counts 1 / (C K)
        client.load_state_dict(start)
        train_client(client, x[k], y[k])
        for name, w in client.state_dict().items():
            mean[name] += w / CHOSEN
    model.load_state_dict(mean)
