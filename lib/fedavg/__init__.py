"""Federated averaging (McMahan et al., 2017): partitions, networks, the algorithm, its measures."""

from lib.fedavg.algorithm import (
    History,
    client_update,
    fedavg_round,
    rounds_to_target,
    sample_clients,
    train,
    updates_per_round,
)
from lib.fedavg.experiments import Curve, learning_curve, speedup
from lib.fedavg.interpolation import align_hidden_units, interpolate_loss
from lib.fedavg.networks import (
    CharLSTM,
    CifarCNN,
    MnistCNN,
    TwoNN,
    WordLSTM,
    accuracy,
    count_params,
    cross_entropy,
)
from lib.fedavg.partitions import (
    Federation,
    label_histogram,
    pack,
    partition_by_group,
    partition_dirichlet,
    partition_iid,
    partition_shards,
)
from lib.fedavg.tables import TABLE_1, TABLE_2, TABLE_4

__all__ = [
    "TABLE_1",
    "TABLE_2",
    "TABLE_4",
    "CharLSTM",
    "CifarCNN",
    "Curve",
    "Federation",
    "History",
    "MnistCNN",
    "TwoNN",
    "WordLSTM",
    "accuracy",
    "align_hidden_units",
    "client_update",
    "count_params",
    "cross_entropy",
    "fedavg_round",
    "interpolate_loss",
    "label_histogram",
    "learning_curve",
    "pack",
    "partition_by_group",
    "partition_dirichlet",
    "partition_iid",
    "partition_shards",
    "rounds_to_target",
    "sample_clients",
    "speedup",
    "train",
    "updates_per_round",
]
