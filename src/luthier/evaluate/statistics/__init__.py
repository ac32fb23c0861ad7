"""Paired statistics: tests, intervals and power, as pure functions of counts, differences and cluster labels.

Two kinds of scores, two families of methods:

- right or wrong (0 or 1): exact McNemar test, Wilson and Newcombe intervals, exact power;
- anything between: sign-flip permutation test, BCa bootstrap interval, power from the spread of the differences.

Rows that share a source come with a label each, and then whole clusters flip, are resampled, and are counted. A *win* is
a row on which the fine-tuned model scored higher, a *loss* one on which it scored lower. Nothing here depends on the
order of rows, and exchanging the two models mirrors every result: random draws use sorted values. `scipy.special` is all
that is used of scipy; `scipy.stats` takes most of a second to import.
"""

from __future__ import annotations

from luthier.evaluate.statistics.clusters import (
    Grouping,
    Spread,
    cluster_sums,
    clustered_error,
    grouping_of,
    intraclass_correlation,
)
from luthier.evaluate.statistics.families import holm
from luthier.evaluate.statistics.levels import ALPHA, MAX_ROWS, NUM_DRAWS, POWER, Floats, Integers, Interval
from luthier.evaluate.statistics.noise import Noise, split_noise
from luthier.evaluate.statistics.paired import (
    clustered_newcombe_interval,
    clustered_wilson_interval,
    mcnemar_mid_p,
    mcnemar_p,
    newcombe_interval,
    wilson_interval,
)
from luthier.evaluate.statistics.power import (
    detectable_gain,
    detectable_score_gain,
    flip_deviation,
    gain_power,
    mcnemar_power,
    rows_needed,
    score_power,
    score_rows_needed,
)
from luthier.evaluate.statistics.scores import bootstrap_interval, equal_values_interval, sign_flip_p

__all__ = [
    "ALPHA",
    "MAX_ROWS",
    "NUM_DRAWS",
    "POWER",
    "Floats",
    "Grouping",
    "Integers",
    "Interval",
    "Noise",
    "Spread",
    "bootstrap_interval",
    "cluster_sums",
    "clustered_error",
    "clustered_newcombe_interval",
    "clustered_wilson_interval",
    "detectable_gain",
    "detectable_score_gain",
    "equal_values_interval",
    "flip_deviation",
    "gain_power",
    "grouping_of",
    "holm",
    "intraclass_correlation",
    "mcnemar_mid_p",
    "mcnemar_p",
    "mcnemar_power",
    "newcombe_interval",
    "rows_needed",
    "score_power",
    "score_rows_needed",
    "sign_flip_p",
    "split_noise",
    "wilson_interval",
]
