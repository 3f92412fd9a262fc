"""Numbers that Charles et al. (2022) report, to set beside ours."""

from __future__ import annotations

# Fig. 3: recall@5 of tag prediction in per cent, by keys m and words n
FIG_3 = {
    (100, 10_000): 65.03,
    (100, 50_000): 66.32,
    (100, 100_000): 66.37,
    (1_000, 10_000): 67.71,
    (1_000, 50_000): 70.12,
    (1_000, 100_000): 70.29,
    (10_000, 10_000): 67.39,
    (10_000, 50_000): 69.99,
    (10_000, 100_000): 70.23,
}

# Random keys on EMNIST with 62 classes, by m: test accuracy in per cent, its standard deviation
# over five trials, and the relative size of the client's model
CNN_RANDOM_KEYS = {
    4: (75.02, 0.92, 0.08),
    8: (81.92, 0.10, 0.14),
    16: (84.15, 0.12, 0.26),
    32: (85.66, 0.15, 0.51),
    64: (86.71, 0.06, 1.00),
}
TWO_NN_RANDOM_KEYS = {
    10: (14.17, 0.78, 0.11),
    50: (50.61, 0.93, 0.30),
    100: (63.97, 0.32, 0.53),
    200: (74.93, 0.13, 1.00),
}
