"""Our numbers against those of others: scipy, statsmodels, and worked examples in print."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from luthier.evaluate import statistics

pytestmark = pytest.mark.reference

NUM_TABLES = 1_000


def tables(largest: int = 400) -> list[tuple[int, int, int, int]]:
    """Random tables of all sizes, cells of 0 among them."""
    rng = np.random.default_rng(20_260_501)
    sizes = np.exp(rng.uniform(0, math.log(largest), size=(NUM_TABLES, 4))).astype(int)
    kept = sizes * (rng.random((NUM_TABLES, 4)) < 0.85)
    kept[:, 0] += kept.sum(axis=1) == 0
    return [tuple(row) for row in kept.tolist()]


def test_mcnemar_agrees_with_scipy_and_statsmodels() -> None:
    for both, wins, losses, neither in tables():
        ours = statistics.mcnemar_p(wins, losses)
        theirs = float(mcnemar([[both, losses], [wins, neither]], exact=True).pvalue)
        assert ours == pytest.approx(theirs, rel=1e-9)
        if wins + losses:
            assert ours == pytest.approx(stats.binomtest(wins, wins + losses).pvalue, rel=1e-9)


def test_wilson_agrees_with_statsmodels_and_scipy() -> None:
    for both, wins, losses, neither in tables():
        successes, n = both + wins, both + wins + losses + neither
        ours = statistics.wilson_interval(successes, n)
        assert ours == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-9)
        theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_newcombe_agrees_with_the_formula_over_statsmodels_intervals() -> None:
    """Method 10 as Fagerland, Lydersen & Laake print it, built on another implementation of Wilson's interval."""
    for both, wins, losses, neither in tables():
        n = both + wins + losses + neither
        first, second = (both + wins) / n, (both + losses) / n
        low_1, high_1 = proportion_confint(both + wins, n, method="wilson")
        low_2, high_2 = proportion_confint(both + losses, n, method="wilson")
        product = (both + wins) * (losses + neither) * (both + losses) * (wins + neither)
        excess = both * neither - wins * losses
        corrected = excess - n / 2 if excess > n / 2 else min(excess, 0)
        psi = corrected / product**0.5 if product else 0.0
        a, b, c, d = first - low_1, high_2 - second, high_1 - first, second - low_2
        low = first - second - (a * a + b * b - 2 * psi * a * b) ** 0.5
        high = first - second + (c * c + d * d - 2 * psi * c * d) ** 0.5
        ours = statistics.newcombe_interval(both, wins, losses, neither)
        assert ours == pytest.approx((max(low, -1), min(high, 1)), abs=1e-9)


@pytest.mark.parametrize(
    ("table", "low", "high", "digits"),
    [
        # Altman, Machin, Bryant & Gardner 2000, Statistics with Confidence, p. 52
        ((14, 5, 0, 22), 0.011, 0.226, 3),
        # Cavo et al. 2012, in the tests of the R package contingencytables (Fagerland, Lydersen & Laake 2017)
        ((59, 6, 16, 80), -0.1186, -0.0046, 4),
    ],
)
def test_newcombe_gives_the_worked_examples(
    table: tuple[int, int, int, int], low: float, high: float, digits: int
) -> None:
    interval = statistics.newcombe_interval(*table)
    assert (round(interval.low, digits), round(interval.high, digits)) == (low, high)


def test_power_agrees_with_scipy_distributions() -> None:
    rng = np.random.default_rng(11)
    for _ in range(100):
        n, gain, regress = int(rng.integers(5, 300)), rng.uniform(0.02, 0.5), rng.uniform(0.01, 0.2)
        rate = gain + 2 * regress
        power = 0.0
        for discordant in range(n + 1):
            limit = stats.binom.ppf(0.025, discordant, 0.5)
            critical = int(limit) if 2 * stats.binom.cdf(limit, discordant, 0.5) < 0.05 else int(limit) - 1
            shown = stats.binom.cdf(critical, discordant, regress / rate) if critical >= 0 else 0.0
            power += stats.binom.pmf(discordant, n, rate) * shown
        assert statistics.mcnemar_power(gain, regress, n) == pytest.approx(power, abs=1e-9)


def test_sign_flips_agree_with_scipy_where_both_are_exact() -> None:
    rng = np.random.default_rng(12)
    for _ in range(10):
        differences = np.round(rng.normal(0.1, 0.3, size=10), 2)
        theirs = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert statistics.sign_flip_p(differences) == pytest.approx(theirs.pvalue, abs=1e-9)


def test_drawn_sign_flips_agree_with_the_t_test_on_normal_differences() -> None:
    rng = np.random.default_rng(13)
    for _ in range(5):
        differences = rng.normal(0.1, 0.4, size=80)
        theirs = stats.ttest_1samp(differences, 0).pvalue
        assert statistics.sign_flip_p(differences) == pytest.approx(theirs, abs=0.02)


def test_bootstrap_agrees_with_scipy_at_the_level_of_student() -> None:
    """scipy has BCa without the small-sample widening, so it is asked for the widened level."""
    rng = np.random.default_rng(14)
    for n in (12, 40, 150):
        values = rng.beta(1, 3, size=n)
        widened = 2 * stats.norm.cdf(n / (n - 1) * stats.t.ppf(0.975, n - 1)) - 1
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=40_000, confidence_level=widened, method="BCa", rng=rng
        ).confidence_interval
        ours = statistics.bootstrap_interval(values, bounds=(0, 1))
        spread = theirs.high - theirs.low
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.05 * spread)


def test_score_power_is_the_noncentral_t() -> None:
    for n in (6, 10, 30, 200):
        for gain in (0.001, 0.05, 0.1, 0.2):
            theirs = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, gain / 0.25 * math.sqrt(n))
            assert statistics.score_power(gain, 0.25, n) == pytest.approx(theirs, abs=1e-9)


def test_score_rows_needed_agree_with_statsmodels() -> None:
    for gain, deviation in ((0.1, 0.2), (0.05, 0.3), (0.3, 0.4)):
        theirs = TTestPower().solve_power(gain / deviation, power=0.8, alpha=0.05, alternative="two-sided")
        assert statistics.score_rows_needed(gain, deviation) == math.ceil(theirs)


def grouped(rng: np.random.Generator, *, even: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values that share a part within their cluster, and the clusters."""
    sizes = np.full(rng.integers(3, 20), rng.integers(2, 8)) if even else rng.integers(1, 9, size=rng.integers(3, 20))
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    return np.round(rng.normal(0.1, 0.3, len(sizes))[clusters] + rng.normal(0, 0.2, len(clusters)), 6), clusters


def test_mid_p_agrees_with_scipy_distributions() -> None:
    for _, wins, losses, _ in tables():
        exact = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        seen = stats.binom.pmf(wins, wins + losses, 0.5)
        # where both are equally likely, the two tails meet in the table that was seen
        theirs = 1 - seen / 2 if wins == losses else exact - seen
        assert statistics.mcnemar_mid_p(wins, losses) == pytest.approx(theirs if wins + losses else 1.0, abs=1e-9)


def test_holm_agrees_with_statsmodels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # which it calls each time
    rng = np.random.default_rng(15)
    for _ in range(NUM_TABLES):
        p_values = rng.random(rng.integers(1, 25)) ** rng.integers(1, 5)
        assert statistics.holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-9)


def test_clustered_errors_agree_with_statsmodels_where_clusters_are_of_one_size() -> None:
    rng = np.random.default_rng(16)
    for _ in range(NUM_TABLES):
        values, clusters = grouped(rng, even=True)
        theirs = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": clusters}).bse[0]
        ours = statistics.clustered_error(*statistics.cluster_sums(values, clusters), 0.5)
        assert ours.error == pytest.approx(theirs, rel=1e-9)
        assert ours.freedom == pytest.approx(clusters[-1])


def test_clustered_errors_are_those_of_the_whole_matrices() -> None:
    """CR2, CR3 and their Satterthwaite degrees of freedom, as Bell & McCaffrey define them: rows by rows."""
    rng = np.random.default_rng(17)
    for _ in range(100):
        values, clusters = grouped(rng, even=False)
        n, correlation = len(values), float(rng.random())
        own = clusters[:, None] == clusters[None, :]
        residual = np.eye(n) - 1 / n
        working = np.where(own, correlation, 0.0) + (1 - correlation) * np.eye(n)
        for jackknife, power in ((False, -0.5), (True, -1.0)):
            columns = []
            for cluster in np.unique(clusters):
                rows = clusters == cluster
                values_of, vectors = np.linalg.eigh(residual[np.ix_(rows, rows)])
                adjusted = vectors @ np.diag(values_of**power) @ vectors.T
                columns.append(residual[:, rows] @ adjusted @ np.ones(rows.sum()) / n)
            spread = np.array(columns).T
            form = spread.T @ working @ spread
            freedom = np.trace(form) ** 2 / np.sum(form**2)
            ours = statistics.clustered_error(
                *statistics.cluster_sums(values, clusters), correlation, jackknife=jackknife
            )
            assert ours.error == pytest.approx(np.linalg.norm(values @ spread), rel=1e-9)
            assert ours.freedom == pytest.approx(freedom, rel=1e-7)


def test_the_intraclass_correlation_agrees_with_scipy_analysis_of_variance() -> None:
    rng = np.random.default_rng(18)
    for _ in range(NUM_TABLES):
        values, clusters = grouped(rng, even=True)
        f = stats.f_oneway(*(values[clusters == cluster] for cluster in np.unique(clusters))).statistic
        size = len(values) / (clusters[-1] + 1)
        theirs = min(1.0, max(0.0, (f - 1) / (f - 1 + size)))
        assert statistics.intraclass_correlation(values, clusters) == pytest.approx(theirs, abs=1e-9)


def test_clustered_sign_flips_agree_with_scipy_on_the_sums() -> None:
    rng = np.random.default_rng(19)
    for _ in range(20):
        values, clusters = grouped(rng, even=False)
        sums = np.bincount(clusters, weights=values)[:12]
        rows = clusters < 12
        theirs = stats.permutation_test(
            (sums,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        ours = statistics.sign_flip_p(values[rows], clusters=clusters[rows])
        assert ours == pytest.approx(theirs.pvalue, abs=1e-9)


def test_the_cluster_bootstrap_agrees_with_scipy_on_the_means_of_even_clusters() -> None:
    rng = np.random.default_rng(20)
    values = rng.beta(1, 3, size=40)[np.repeat(np.arange(40), 5)] * 0.5 + rng.beta(2, 2, size=200) * 0.5
    clusters = np.repeat(np.arange(40), 5)
    means = values.reshape(40, 5).mean(axis=1)
    widened = 2 * stats.norm.cdf(40 / 39 * stats.t.ppf(0.975, 39)) - 1
    theirs = stats.bootstrap(
        (means,), np.mean, n_resamples=40_000, confidence_level=widened, method="BCa", rng=rng
    ).confidence_interval
    ours = statistics.bootstrap_interval(values, bounds=(0, 1), clusters=clusters)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.05 * (theirs.high - theirs.low))
