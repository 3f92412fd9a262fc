"""Flower's simulation, with ray and PyTorch: `with_flower.py DATA ROUNDS`."""

import sys
from functools import partial

import numpy as np
import psutil
import torch
from fedavg_task import CHOSEN, CLIENTS, Task, flat
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from meter import Meter
from networks_torch import accuracy, train_client, twonn


def family_cpu_seconds() -> float:
    """CPU time of this process and of all that ray started: actors, scheduler, object store."""
    total = 0.0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def local_training(folder, message, context):
    """What a client does with the global weights."""
    data, k = Task(folder), int(context.node_config["partition-id"])
    model = twonn(data.weights("twonn"))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x = torch.from_numpy(flat(data.x[k]))
    train_client(model, x, torch.from_numpy(data.y[k].astype(np.int64)))
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": len(x)}),
    }
    return Message(content=RecordDict(content), reply_to=message)


def serve(folder, rounds, grid, context):
    """All rounds; before each, wait for the order."""
    data = Task(folder)
    model = twonn(data.weights("twonn"))
    test = torch.from_numpy(flat(data.test_x)), torch.from_numpy(data.test_y.astype(np.int64))
    meter = Meter("flwr", family_cpu_seconds)

    def pace(t, arrays):
        def test_now():
            model.load_state_dict(arrays.to_torch_state_dict())
            return accuracy(model, *test)

        meter.again(test_now)

    strategy = FedAvg(fraction_train=CHOSEN / CLIENTS, fraction_evaluate=0.0)
    strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=rounds, evaluate_fn=pace)


if __name__ == "__main__":
    server, client = ServerApp(), ClientApp()
    server.main()(partial(serve, sys.argv[1], int(sys.argv[2])))
    client.train()(partial(local_training, sys.argv[1]))
    run_simulation(
        server,
        client,
        num_supernodes=CLIENTS,
        backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 2}},
    )
