"""Programs that copy themselves, written by hand."""

import numpy as np

REPLICATORS = {
    "bff_noheads": np.frombuffer(b"[[{.>]-]" + b" " * 48 + b"]-]>.{[[", np.uint8),
}
