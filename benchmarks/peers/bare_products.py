"""The matrix products of a round in NumPy and nothing else: `bare_products.py DATA skinny|peak`.

"skinny" does the products of 600 local steps with their own shapes, forward and backward.
"peak" does as many multiplications in large products: the speed of the processor.
"""

import sys

import numpy as np
from fedavg_task import BATCH, CHOSEN
from meter import Meter

SIZES = (784, 200, 200, 10)
SIDE = 512
steps = CHOSEN * 600 // BATCH
shapes = list(zip(SIZES[:-1], SIZES[1:], strict=True))
# forward, gradient of the weights, and of the inputs, which the first layer does not need
products = [(BATCH, a, b) for a, b in shapes] + [(a, BATCH, b) for a, b in shapes]
products += [(BATCH, b, a) for a, b in shapes[1:]]
repeats = steps
if sys.argv[2] == "peak":
    repeats = round(steps * sum(a * b * c for a, b, c in products) / SIDE**3)
    products = [(SIDE, SIDE, SIDE)]
rng = np.random.default_rng(0)
factors = [
    [rng.random(shape, np.float32) for shape in ((a, b), (b, c), (a, c))] for a, b, c in products
]
meter = Meter("numpy")
while meter.again(lambda: 0.0):
    for _ in range(repeats):
        for left, right, out in factors:
            np.matmul(left, right, out=out)
