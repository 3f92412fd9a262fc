"""Numbers to compare with: the paper's, and what the authors' program cubff prints."""

from __future__ import annotations

from typing import NamedTuple


class LogLine(NamedTuple):
    """A line of the reference program's log: how its soup compresses after so many epochs."""

    compressed: int  # bytes, by brotli at quality 2
    high_order: float  # bits a byte


# SHA-256 of the soup of bff_noheads, programs in order: (programs, seed, epochs)
DIGESTS = {
    (256, 10248, 33): "8a42488f7b3efac6c126d8e5d378fc6b4a90fd84cf2bf9073b6928f45cfd1fc9",
    (1024, 7, 129): "2333d2d72adce3ee2000095e37e60d7fd7e237ff5880e6bbd8a39eb65f1e774e",
    (32768, 103, 126): "5266d079a78bdc0b91aedcff50fcf3b1fec202934ebf27e77d6580a1ac8e6bc2",
}

# of 2^17 programs with seed 10248: (language, epochs)
LOG = {
    ("bff_noheads", 1): LogLine(8388776, -0.000190),
    ("bff_noheads", 65): LogLine(8286015, 0.097342),
    ("bff", 1): LogLine(8388742, -0.000157),
    ("bff", 65): LogLine(8364594, 0.021187),
    ("bff_noheads_4bit", 1): LogLine(8302075, 0.082429),
    ("forthtrivial", 1): LogLine(8388613, -0.000035),
    ("forthtrivial", 65): LogLine(8388613, -0.022252),
    ("subleq", 1): LogLine(8388613, -0.000038),
    ("subleq", 65): LogLine(8388613, -0.004219),
    ("rsubleq4", 1): LogLine(8388613, -0.000033),
    ("rsubleq4", 65): LogLine(8388613, -0.001932),
}

# Fig. 6, read off the figure: mutation rate in 2^30 -> share of runs that stay below 1 bit a byte
# for 16,000 epochs
FIGURE_6 = {
    0: 0.56,
    2**17: 0.65,
    2**18: 0.60,
    2**19: 0.50,
    2**20: 0.42,
    5 * 2**20: 0.62,
    10 * 2**20: 0.94,
}
