"""Wilson's interval against the library and against what is known of it by hand."""

import pytest
from scipy.stats import binom, binomtest, norm

from bench.errors import EstimationError
from bench.intervals import Z_90, Z_95, wilson


@pytest.mark.parametrize("n", [1, 7, 100, 2_000])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("z", "level"), [(Z_95, 0.95), (Z_90, 0.90)])
def test_it_is_that_of_scipy(n: int, share: float, z: float, level: float) -> None:
    successes = round(share * n)
    expected = binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson(successes, n, z) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_quantiles_are_those_of_the_normal() -> None:
    assert (Z_90, Z_95) == pytest.approx((norm.ppf(0.95), norm.ppf(0.975)), rel=1e-12)


def test_nothing_out_of_n_leaves_the_known_upper_end() -> None:
    """With no success the ends are 0 and z^2 / (n + z^2), and failures mirror successes."""
    assert wilson(0, 10) == pytest.approx((0.0, Z_95**2 / (10 + Z_95**2)))
    assert wilson(10, 10) == pytest.approx((10 / (10 + Z_95**2), 1.0))
    low, high = wilson(3, 10)
    assert wilson(7, 10) == pytest.approx((1 - high, 1 - low))


def test_it_holds_the_probability_about_as_often_as_it_says() -> None:
    """Exact coverage at p = 0.9 in 100 trials, by the binomial itself; it swings by about 2 % around its level."""
    covered = sum(binom.pmf(k, 100, 0.9) for k in range(101) if wilson(k, 100)[0] <= 0.9 <= wilson(k, 100)[1])
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_count_of_successes_is_refused(successes: int, n: int) -> None:
    with pytest.raises(EstimationError, match=f"got {successes} in {n}"):
        wilson(successes, n)
