"""What every timed process of the iterated prisoner's dilemma shares: the task, and its digest.

Runs in each peer's own environment: standard library and NumPy only.
"""

from arrays import Packed

GAMMA, RATE, EPISODES = 0.95, 5.0, 20  # discount, the learner's step size, how many steps it takes
REPEATS = 10  # in a round


class Task(Packed):
    """Logits (N, 5) of players and of the naive learners that they meet."""

    def __init__(self):
        super().__init__("shaping")
