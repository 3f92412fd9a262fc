"""Rounds that McMahan et al. (2017) report, to set beside ours; a batch of None is B = infinity."""

# Table 1: the 2NN, E = 1, to 97 %: by C, for (B = inf, IID) and (B = 10, shards)
TABLE_1 = {
    0.0: (1455, 3275),
    0.1: (1474, 664),
    0.2: (1658, 619),
    0.5: (None, 443),
    1.0: (None, 380),
}

# Table 2: the CNN, C = 0.1, to 99 %: by (E, B), for IID and shards
TABLE_2 = {
    (1, None): (626, 483),
    (5, None): (179, 1000),
    (1, 50): (65, 600),
    (20, None): (234, 672),
    (1, 10): (34, 350),
    (5, 50): (29, 334),
    (20, 50): (32, 426),
    (5, 10): (20, 229),
    (20, 10): (18, 173),
}

# Table 4: the 2NN, C = 0.1, to 97 %: by (E, B), for IID and shards. Second-hand: quoted from memory
TABLE_4 = {
    (1, None): (1468, 1817),
    (10, None): (156, 1100),
    (1, 50): (144, 1183),
    (20, None): (92, 957),
    (1, 10): (92, 831),
    (10, 50): (45, 881),
    (20, 50): (39, 835),
    (10, 10): (34, 497),
    (20, 10): (32, 738),
}
