"""Local steps of the convolutional network in PyTorch: `plain_torch_cnn.py DATA BATCH`."""

import sys

import numpy as np
import torch
from fedavg_task import CNN_STEPS, LR, Task, flat
from meter import Meter
from networks_torch import accuracy, cnn

batch = int(sys.argv[2])
data = Task()
x = torch.from_numpy(flat(data.x)).reshape(-1, 1, 28, 28)
y = torch.from_numpy(data.y.astype(np.int64)).reshape(-1)
test = torch.from_numpy(flat(data.test_x[:500])).reshape(-1, 1, 28, 28)
test_y = torch.from_numpy(data.test_y[:500].astype(np.int64))
model = cnn(data.weights("cnn"))
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
done = 0
meter = Meter("torch")
while meter.again(lambda: accuracy(model, test, test_y)):
    for _ in range(CNN_STEPS):
        rows = slice(done, done + batch)
        done += batch
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
