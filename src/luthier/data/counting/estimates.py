"""The total of something that takes long to count, such as tokens, from a random sample of the rows.

Tokens go with the text's bytes: the sample tells how many there are per byte, and the bytes of all rows are known. That is
the ratio estimator. Where the sample is all rows, the total is exact and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SAMPLE_BYTES = 4_000_000
"""All rows are counted up to this much text: 0.2 s at the 20 MB/s of OpenAI's encodings (measured, one core)."""
SAMPLED_ROWS = 100
"""Where rows are so long that fewer fit the budget, the sample may be ten times as long, to come to this many."""
MIN_SAMPLED_ROWS = 8
"""However long the rows are, this many are sampled, so that an interval can be had."""
CONFIDENCE = 0.95

Lengths = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A total over all rows, and how sure it is.

    Attributes:
        total: the total, or the best guess at it.
        low, high: the 95 % interval; both are `total` where that is exact.
        exact: whether every row was counted.
        sampled_rows: how many were.
    """

    total: int
    low: int
    high: int
    exact: bool
    sampled_rows: int

    def times(self, number: int) -> Estimate:
        """Returns the estimate of so many times the total."""
        return Estimate(self.total * number, self.low * number, self.high * number, self.exact, self.sampled_rows)


def sample_rows(lengths: Lengths, *, seed: int = 0, budget_bytes: int = SAMPLE_BYTES) -> NDArray[np.int64]:
    """Returns the indices of a simple random sample of rows, in order: of all rows while they are short together.

    Args:
        lengths: every row's length in bytes.
        seed: the same seed and rows give the same sample.
        budget_bytes: how long the sampled rows may be together, but for `SAMPLED_ROWS` and `MIN_SAMPLED_ROWS`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if lengths.sum() <= budget_bytes:
        return np.arange(len(lengths))
    order = np.random.default_rng(seed).permutation(len(lengths))
    ends = np.cumsum(lengths[order])
    fit, fit_ten_times = (
        int(np.searchsorted(ends, budget, side="right")) for budget in (budget_bytes, 10 * budget_bytes)
    )
    return np.sort(order[: max(fit, min(SAMPLED_ROWS, fit_ten_times), MIN_SAMPLED_ROWS)])


def estimate_total(lengths: Lengths, sampled: Mapping[int, int]) -> Estimate:
    """Returns the total of a count over all rows, from the counts of a simple random sample of them.

    Args:
        lengths: every row's length, a number that the count goes with. UTF-8 bytes serve tokens better than
            characters: scripts differ less in tokens per byte.
        sampled: the counts of the sampled rows, by the row's index in `lengths`.

    Returns:
        The ratio estimate. Its variance is the jackknife's, with the finite population's correction; the interval is
        Student's, with the degrees of freedom that the few long rows leave.

    Raises:
        ValueError: fewer than two rows are sampled, and they are not all.

    Source: Cochran, Sampling Techniques (3rd ed.), ch. 6 (ratio estimators and the jackknife's variance); Satterthwaite,
    Biometrics Bulletin 2 (1946), for the degrees of freedom. With n - 1 of them, the interval covered the total of very
    skewed populations in 83 to 95 % of samples, with these in 91 to 98 % (tests/data/test_estimates.py).
    """
    num_rows, num_sampled, counted = len(lengths), len(sampled), sum(sampled.values())
    if num_sampled == num_rows:
        return Estimate(counted, counted, counted, True, num_sampled)
    if num_sampled < 2:
        raise ValueError("an interval needs two sampled rows")
    all_lengths = np.asarray(lengths, dtype=np.int64)
    own, counts = all_lengths[list(sampled)], np.array(list(sampled.values()), dtype=np.float64)
    total_length = float(all_lengths.sum())
    if (own == own.sum()).any():  # all of the length is in one row: the ratio says nothing of the others
        own, total_length = np.ones_like(own), float(num_rows)
    ratio = counted / float(own.sum())
    without = (counted - counts) / (own.sum() - own)
    squares = (without - without.mean()) ** 2
    margin = 0.0
    if squares.any():
        variance = (1 - num_sampled / num_rows) * (num_sampled - 1) / num_sampled * squares.sum()
        degrees = float(squares.sum() ** 2 / (squares**2).sum()) if (squares**2).any() else 2.0
        margin = _student_t(max(2.0, degrees)) * math.sqrt(variance) * total_length
    total = ratio * total_length
    return Estimate(
        total=max(counted, round(total)),
        low=max(counted, math.floor(total - margin)),
        high=max(counted, math.ceil(total + margin)),
        exact=False,
        sampled_rows=num_sampled,
    )


def _student_t(degrees: float) -> float:
    """Returns the two-sided 95 % point of Student's t: to 1 % from 2 degrees of freedom on, to 1e-4 from 10 on.

    scipy would take 0.3 s to load. Source: Abramowitz & Stegun, 26.7.5.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / degrees + second / degrees**2 + third / degrees**3 + fourth / degrees**4
