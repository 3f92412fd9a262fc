"""Federated Select (Charles et al., 2022): the primitive, keys, submodels, tags, the ledger."""

from lib.fedselect.keys import (
    distinct,
    local_ids,
    random_global,
    random_local,
    random_top,
    shared,
    top_keys,
)
from lib.fedselect.ledger import Ledger, ledger
from lib.fedselect.primitive import (
    broadcast,
    deselect_mean,
    fed_select,
    merge_keys,
    merge_psi,
    pad_keys,
)
from lib.fedselect.submodels import (
    MNIST_CNN,
    TRANSFORMER,
    TWO_NN,
    cut_models,
    relative_size,
    submodel_round,
    submodel_size,
    train_submodels,
)
from lib.fedselect.tables import CNN_RANDOM_KEYS, FIG_3, TWO_NN_RANDOM_KEYS
from lib.fedselect.tags import (
    draw_round,
    fed_adagrad,
    group_clients,
    most_frequent,
    read_documents,
    recall_at,
    start_server,
    tag_round,
    tag_scores,
    train_tagger,
)
from lib.fedselect.transformer import MiniTransformer

__all__ = [
    "CNN_RANDOM_KEYS",
    "FIG_3",
    "MNIST_CNN",
    "TRANSFORMER",
    "TWO_NN",
    "TWO_NN_RANDOM_KEYS",
    "Ledger",
    "MiniTransformer",
    "broadcast",
    "cut_models",
    "deselect_mean",
    "distinct",
    "draw_round",
    "fed_adagrad",
    "fed_select",
    "group_clients",
    "ledger",
    "local_ids",
    "merge_keys",
    "merge_psi",
    "most_frequent",
    "pad_keys",
    "random_global",
    "random_local",
    "random_top",
    "read_documents",
    "recall_at",
    "relative_size",
    "shared",
    "start_server",
    "submodel_round",
    "submodel_size",
    "tag_round",
    "tag_scores",
    "top_keys",
    "train_submodels",
    "train_tagger",
]
