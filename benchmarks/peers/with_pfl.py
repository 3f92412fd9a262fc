"""pfl-research's simulated backend on PyTorch: `with_pfl.py DATA`."""

import numpy as np
import torch
from fedavg_task import BATCH, CHOSEN, CLIENTS, LR, Task, flat
from meter import Meter
from networks_torch import accuracy, twonn
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel

data = Task()
test = torch.from_numpy(flat(data.test_x)), torch.from_numpy(data.test_y.astype(np.int64))
users = [
    Dataset((torch.from_numpy(flat(data.x[k])), torch.from_numpy(data.y[k].astype(np.int64))))
    for k in range(CLIENTS)
]
federation = FederatedDataset(
    users.__getitem__, get_user_sampler("minimize_reuse", list(range(CLIENTS)))
)


class Network(torch.nn.Module):
    """The 2NN with the methods that pfl calls."""

    def __init__(self):
        super().__init__()
        self.layers = twonn(data.weights("twonn"))

    def loss(self, x, y):
        return torch.nn.functional.cross_entropy(self.layers(x), y)

    def metrics(self, x, y):
        return {}


class Paced(TrainingProcessCallback):
    """Runs one round for each order."""

    def on_train_begin(self, *, model):
        self.meter = Meter("pfl")
        self.after_central_iteration(None, model, central_iteration=-1)
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        go_on = self.meter.again(lambda: accuracy(network.layers, *test))
        return not go_on, Metrics()


network = Network()
FederatedAveraging().run(
    NNAlgorithmParams(
        central_num_iterations=10**6,
        evaluation_frequency=10**6,
        train_cohort_size=CHOSEN,
        val_cohort_size=0,
    ),
    SimulatedBackend(federation, federation, postprocessors=[WeightByDatapoints()]),
    PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0)),
    NNTrainHyperParams(local_batch_size=BATCH, local_num_epochs=1, local_learning_rate=LR),
    callbacks=[Paced()],
    send_metrics_to_platform=False,
)
