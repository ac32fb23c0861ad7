"""Does more data help? A saturating curve through a few scores, with all that is uncertain about it.

The curve is score = a - b n^(-c): it climbs towards the ceiling a, and the rate c says how soon. Four points hardly tell
three parameters, so nothing here rests on the best curve alone: every curve that the scores do not contradict is kept,
and each answer is the range that these curves give (a profile-likelihood interval).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import chdtrc, ndtri

from luthier.errors import EvaluateError
from luthier.evaluate.sentences import points, with_unit
from luthier.evaluate.statistics import Floats, Interval

RATES = (0.05, 3.0)
"""The slowest and the fastest rate c believed in. Exponents measured on language and vision tasks lie within 0.07 and
about 1 (Hestness et al. 2017, arXiv 1712.00409; Viering & Loog 2021, arXiv 2103.10948); at 3 an eighth of the data is
already within 0.2 % of the way to the ceiling."""

HORIZON = 100.0
"""Answers beyond so many times the data there is are none: no curve is known to hold that far."""

_NUM_RATES, _NUM_DROPS, _NUM_ZOOMS = 100, 61, 3
"""Curves tried at a time, and how often the rates are narrowed to those that are kept."""

_RIDGE = 1e-9
"""Of each variance, added to it."""

Answer = Literal["MORE DATA WILL HELP", "MORE DATA WILL NOT HELP", "CANNOT BE TOLD"]


@dataclass(frozen=True, slots=True)
class MoreData:
    """How many more examples a gain takes.

    Attributes:
        gain: in score points.
        answer: whether the interval of the number ends, begins beyond the horizon, or neither.
        low, best, high: more examples than there are; None for without end.
        reason: the answer in one sentence.
    """

    gain: float
    answer: Answer
    low: int | None
    best: int | None
    high: int | None
    reason: str


@dataclass(frozen=True)
class LearningCurve:
    """A fitted curve and all others that the scores do not contradict.

    Attributes:
        sizes, scores, errors: what it was fitted to.
        ceiling, drop, rate: a, b and c of the best curve, b in score points at one example.
        misfit: the sum of squared standardised residuals, and `misfit_p` its probability; None for three points.
        confidence: of all intervals.
    """

    sizes: Floats
    scores: Floats
    errors: Floats
    ceiling: float
    drop: float
    rate: float
    misfit: float
    misfit_p: float | None
    confidence: float
    _rates: Floats
    _drops: Floats
    _ceilings: Floats

    def score_at(self, examples: float) -> tuple[float, Interval]:
        """Returns the score expected from so many examples, and its interval."""
        share = self._shares(self._rates, examples) * self._drops
        best = self.ceiling - self.drop * examples**-self.rate
        return best, Interval(float(np.min(self._ceilings[0] - share)), float(np.max(self._ceilings[1] - share)))

    def gain_at(self, examples: float) -> tuple[float, Interval]:
        """Returns what so many examples would add to the score of all there are, and its interval."""
        gains = self._drops * (1 - self._shares(self._rates, examples))
        largest = self.sizes[-1]
        best = self.drop * (largest**-self.rate - examples**-self.rate)
        return float(best), Interval(float(gains.min()), float(gains.max()))

    def examples_for(self, gain: float) -> MoreData:
        """Returns how many more examples such a gain takes.

        Args:
            gain: in score points, above 0; 0.05 is five points.
        """
        largest = float(self.sizes[-1])
        here = self.drop * largest**-self.rate
        times = _times(self._drops, self._rates, gain)
        best = float(_times(np.array([here]), np.array([self.rate]), gain)[0])
        numbers = [_more(value, largest) for value in (float(times.min()), best, float(times.max()))]
        low, likely, high = numbers
        wanted = with_unit(points(gain))
        if low is None:
            answer: Answer = "MORE DATA WILL NOT HELP"
            reach = self.gain_at(largest * HORIZON)[1].high
            reason = (
                f"More data will not help: even {HORIZON:.0f} times the examples would add at most "
                f"{with_unit(points(reach))}, less than {wanted}."
            )
        elif high is not None:
            answer = "MORE DATA WILL HELP"
            reason = f"{wanted} more take about {likely:,} more examples (interval {low:,} to {high:,})."
        else:
            answer = "CANNOT BE TOLD"
            guess = (
                f"about {likely:,} by the likeliest curve" if likely is not None else "the likeliest curve never does"
            )
            reason = (
                f"{wanted} more take at least {low:,} more examples ({guess}), but the scores do not rule out a curve "
                "that flattens before: measure on more test rows, or on more sizes."
            )
        return MoreData(gain, answer, low, likely, high, reason)

    def _shares(self, rates: Floats, examples: float) -> Floats:
        """Returns how much of the distance to the ceiling is left, as a share of what is left with all examples."""
        shares: Floats = (examples / self.sizes[-1]) ** -rates
        return shares


def fit_curve(
    sizes: Sequence[float],
    scores: Sequence[float],
    errors: Sequence[float],
    *,
    covariance: Floats | None = None,
    highest: float = 1.0,
    confidence: float = 0.95,
) -> LearningCurve:
    """Returns the curve a - b n^(-c) through scores by number of training examples.

    Args:
        sizes: numbers of training examples, at least three different ones.
        scores: of the models trained on them.
        errors: standard errors of the scores. They must hold all that makes a score differ from the curve: a test of few
            rows, and the luck of a training run where runs were repeated; what they leave out makes intervals too narrow.
        covariance: of the scores, where they come from the same test rows and are known row by row, its diagonal the
            squared errors. Rows that are hard for all models shift the whole curve, which makes no gain less sure.
        highest: the greatest score possible.
        confidence: of all intervals.

    Raises:
        EvaluateError: code "bad_curve" for fewer than three sizes, or a value that cannot be.

    Source: for a given c the curve is linear in a and b, and fitted by generalised least squares; the kept curves are
    those within the chi-squared quantile of the best one, whose ranges are profile-likelihood intervals (Venzon &
    Moolgavkar 1988, Applied Statistics 37:87). The form: Hestness et al. 2017 (arXiv 1712.00409), which the review of
    Viering & Loog 2021 (arXiv 2103.10948) finds to suit most curves.
    """
    given = [np.asarray(values, dtype=np.float64) for values in (sizes, scores, errors)]
    _check(*given)
    order = np.argsort(given[0], kind="stable")
    n, y, deviation = (values[order] for values in given)
    joint = np.diag(deviation**2) if covariance is None else np.asarray(covariance, dtype=np.float64)[order][:, order]
    # models that answer every row alike have a covariance without an inverse
    weight: Floats = np.linalg.inv(joint + _RIDGE * np.diag(np.diag(joint))).astype(np.float64)

    reach = float(ndtri((1 + confidence) / 2))
    rates = np.geomspace(*RATES, _NUM_RATES)
    for _ in range(_NUM_ZOOMS):
        found = _Curves.near_the_best(n, y, weight, rates, highest, reach)
        kept = np.flatnonzero((found.misfits <= found.room).any(axis=1))
        rates = np.geomspace(rates[max(0, kept[0] - 1)], rates[min(len(rates), kept[-1] + 2) - 1], _NUM_RATES)
    at, keep = found.best, found.misfits <= found.room
    rate = float(found.rates[at])
    freedom = len(n) - 3
    return LearningCurve(
        sizes=n,
        scores=y,
        errors=deviation,
        ceiling=float(found.ceilings[at]),
        drop=float(found.drops[at]) * float(n[-1]) ** rate,
        rate=rate,
        misfit=float(found.misfits[at]),
        misfit_p=float(chdtrc(freedom, found.misfits[at])) if freedom > 0 else None,
        confidence=confidence,
        _rates=found.rates[keep],
        _drops=found.drops[keep],
        _ceilings=np.stack([found.lows[keep], found.highs[keep]]),
    )


@dataclass(frozen=True, slots=True)
class _Curves:
    """Curves on a grid of rates and drops, each with the ceilings that suit it.

    Attributes:
        rates, drops: of each curve; a drop is what is still missing with all examples, so that no power under- or
            overflows.
        ceilings: the best for each, no higher than the highest score.
        misfits: of each with its best ceiling.
        room: the misfit up to which a curve is not contradicted.
        lows, highs: the ceilings that leave each kept curve uncontradicted.
        best: where the least misfit is.
    """

    rates: Floats
    drops: Floats
    ceilings: Floats
    misfits: Floats
    room: float
    lows: Floats
    highs: Floats
    best: tuple[int, int]

    @classmethod
    def near_the_best(
        cls, sizes: Floats, scores: Floats, weight: Floats, rates: Floats, highest: float, reach: float
    ) -> _Curves:
        """Returns, for each rate, the curves around the best one with drops that could be kept."""
        left = (sizes / sizes[-1]) ** -rates[:, None]
        ones = np.ones(len(sizes))
        precision = float(ones @ weight @ ones)
        centred = weight - np.outer(weight @ ones, ones @ weight) / precision
        curvature = np.einsum("rn,nm,rm->r", left, centred, left)
        drop = -(left @ centred @ scores) / curvature
        above = (scores @ weight @ ones + drop * (left @ weight @ ones)) / precision > highest
        against = -(left @ weight @ (scores - highest)) / np.einsum("rn,nm,rm->r", left, weight, left)
        drop = np.maximum(0.0, np.where(above, against, drop))
        # misfit grows by at least the curvature on both sides of the best drop: further ones are contradicted
        steps = np.linspace(-1.0, 1.0, _NUM_DROPS) * reach
        drops = np.maximum(0.0, drop[:, None] + steps / np.sqrt(curvature)[:, None])
        levels = scores + drops[:, :, None] * left[:, None, :]
        free = levels @ weight @ ones / precision
        ceilings = np.minimum(free, highest)
        residuals = levels - ceilings[:, :, None]
        misfits = np.einsum("crn,nm,crm->cr", residuals, weight, residuals)
        row, column = np.unravel_index(int(np.argmin(misfits)), misfits.shape)
        room = float(misfits[row, column]) + reach**2
        # away from the free ceiling the misfit grows by its precision
        unbound = misfits - precision * (ceilings - free) ** 2
        width = np.sqrt(np.maximum(0.0, room - unbound) / precision)
        return cls(
            rates=np.broadcast_to(rates[:, None], misfits.shape),
            drops=drops,
            ceilings=ceilings,
            misfits=misfits,
            room=room,
            lows=free - width,
            highs=np.minimum(free + width, highest),
            best=(int(row), int(column)),
        )


def _times(drops: Floats, rates: Floats, gain: float) -> Floats:
    """Returns how many times the examples each curve needs for a gain, infinity where it never gets there."""
    left = np.where(drops > gain, 1 - gain / np.where(drops > gain, drops, 1.0), 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        times: Floats = np.where(left > 0, np.exp(-np.log(left) / rates), np.inf)
    return times


def _more(times: float, largest: float) -> int | None:
    return math.ceil((times - 1) * largest) if times <= HORIZON else None


def _check(sizes: Floats, scores: Floats, errors: Floats) -> None:
    def refuse(problem: str) -> EvaluateError:
        return EvaluateError(
            f"No learning curve can be fitted: {problem}.",
            code="bad_curve",
            hint="Give three or more numbers of examples, each with its score and a standard error above 0.",
        )

    if not len(sizes) == len(scores) == len(errors):
        raise refuse(f"{len(sizes)} sizes, {len(scores)} scores and {len(errors)} standard errors")
    if len(np.unique(sizes)) < 3:
        raise refuse(f"{len(np.unique(sizes))} different numbers of examples are too few")
    if not (np.all(np.isfinite(sizes)) and np.all(np.isfinite(scores)) and np.all(np.isfinite(errors))):
        raise refuse("a value is not a number")
    if np.any(sizes <= 0) or np.any(errors <= 0):
        raise refuse("a number of examples or a standard error is not above 0")
