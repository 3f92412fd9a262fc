"""What listening all day costs: milliamperes, joules, and thresholds as a share of the battery.

Agüera y Arcas et al. (2017), section 5: the chip that waits for music draws less than 0.4 mA;
waking the phone's processor to recognise a song takes 2.0 J, about 100 times a day.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

BATTERY = 2700.0  # mAh, of the paper's phone


class Budget(NamedTuple):
    """Charge that a day takes, in mAh."""

    detector: float | Float[np.ndarray, "..."]
    wakeups: float | Float[np.ndarray, "..."]
    total: float | Float[np.ndarray, "..."]
    percent: float | Float[np.ndarray, "..."]  # of the battery


def energy_day(
    detector: float = 0.4,
    wakeups: float | Float[np.ndarray, "..."] = 100,
    wakeup: float = 0.139,
    *,
    battery: float = BATTERY,
) -> Budget:
    """A day's budget: `detector` mA all the time, and so many `wakeups` of `wakeup` mAh each.

    The numbers of the paper are the defaults, and give 23.5 mAh, 0.87 % of 2700 mAh.

    Raises ValueError if a number is negative, or `battery` is not positive.
    """
    _check(detector=detector, wakeups=wakeups, wakeup=wakeup)
    if not battery > 0:
        raise ValueError(f"battery={battery} must be a positive number of mAh")
    listening, recognising = 24 * detector, wakeups * wakeup
    total = listening + recognising
    return Budget(listening, recognising, total, 100 * total / battery)


def volts(joules: float = 2.0, charge: float = 0.139) -> float:
    """The voltage at which so much energy is so much charge in mAh: the paper's two numbers agree.

    Raises ValueError if the charge is not positive.
    """
    if not charge > 0:
        raise ValueError(f"charge={charge} must be a positive number of mAh")
    return joules / (3.6 * charge)


def always_awake(every: float = 8.0, wakeup: float = 0.139, *, battery: float = BATTERY) -> Budget:
    """A day without a detector: the processor wakes each `every` seconds.

    Raises ValueError if `every` is not positive, and as `energy_day`.
    """
    if not every > 0:
        raise ValueError(f"every={every} must be a positive number of seconds")
    return energy_day(0.0, 86_400 / every, wakeup, battery=battery)


def wakeups_per_day(
    recall: float | Float[np.ndarray, "..."],
    false_alarms: float | Float[np.ndarray, "..."],
    *,
    music: float = 50,
    hours: float = 8,
) -> float | Float[np.ndarray, "..."]:
    """Wake-ups of a day with `music` encounters with music and `hours` of other sound.

    `false_alarms` are those of an hour. With `energy_day` this turns a threshold into a current.
    How many encounters and hours a day has is our assumption.

    Raises ValueError for negative numbers, and for a recall above 1.
    """
    _check(recall=recall, false_alarms=false_alarms, music=music, hours=hours)
    if np.max(recall) > 1:
        raise ValueError(f"recall={recall} must lie between 0 and 1")
    return music * recall + hours * false_alarms


def _check(**numbers):
    for name, number in numbers.items():
        if not np.all(np.asarray(number) >= 0):
            raise ValueError(f"{name}={number} must not be negative")
