"""What any probe of a text has to beat: which tokens it holds, and how hard a model finds it. With their intervals."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.stats import rankdata, t
from sklearn.linear_model import LogisticRegression

from bench.intervals import Z_95
from bench.probe_records import Interval, Perplexity
from bench.records import rounded

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def welch(values: Floats, others: Floats) -> Interval:
    """Difference of two means with Student's 95 % interval; the two samples may have different variances.

    Source: Welch 1947, "The generalization of 'Student's' problem". Equal to the interval of
    `scipy.stats.ttest_ind(values, others, equal_var=False)`.
    """
    shares = [part.var(ddof=1) / len(part) for part in (values, others)]
    difference, variance = float(values.mean() - others.mean()), float(sum(shares))
    if variance == 0:
        return _interval(difference, 0.0)
    freedom = variance**2 / sum(
        share**2 / (len(part) - 1) for share, part in zip(shares, (values, others), strict=True)
    )
    return _interval(difference, float(t.ppf(0.975, freedom)) * math.sqrt(variance))


def auc(positives: Floats, negatives: Floats) -> tuple[float, float]:
    """The share of pairs in which the positive one scores higher (ties count half), and its variance.

    Source: DeLong, DeLong & Clarke-Pearson 1988, "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves". The value equals `sklearn.metrics.roc_auc_score`.
    """
    ranks = rankdata(np.concatenate([positives, negatives]))
    above = (ranks[: len(positives)] - rankdata(positives)) / len(negatives)  # share of negatives below each positive
    below = 1 - (ranks[len(positives) :] - rankdata(negatives)) / len(positives)
    return float(above.mean()), float(above.var(ddof=1) / len(positives) + below.var(ddof=1) / len(negatives))


def bag_of_tokens(windows: Ints, others: Ints, groups: tuple[Ints, ...]) -> Interval:
    """AUC of telling windows apart by which tokens they hold, in any order: logistic regression on token counts.

    Each group is scored by a regression that was fitted on the other groups. All windows are distinct, so none of them
    is on both sides. The AUC is the mean of the groups' own, because scores of two regressions do not compare. Its
    standard error is DeLong's, widened by sqrt(1 + J / (J - 1)) with J groups, because the groups train each other's
    regressions (Nadeau & Bengio 2003, as in `crossfit_nce`).

    Args:
        windows, others: token ids of the two texts, shape (n_windows, window) each.
        groups: rows of each group, the same rows in both texts.
    """
    n_tokens = int(max(windows.max(), others.max())) + 1
    counts = _counts(np.concatenate([windows, others]), n_tokens)
    is_text = np.repeat([True, False], [len(windows), len(others)])
    found = []
    for group in groups:
        held_out = np.concatenate([group, group + len(windows)])
        train = np.setdiff1d(np.arange(len(is_text)), held_out)
        scores = (
            LogisticRegression(max_iter=1000).fit(counts[train], is_text[train]).decision_function(counts[held_out])
        )
        found.append(auc(scores[: len(group)], scores[len(group) :]))
    values, variances = np.array(found).T
    widening = 1 + len(groups) / (len(groups) - 1)
    half_width = Z_95 * math.sqrt(widening * variances.sum()) / len(groups)
    return _share(float(values.mean()), half_width)


def perplexity(losses: Floats, others: Floats) -> Perplexity:
    """How much harder or easier the windows of a text are for a model than those of another.

    Args:
        losses, others: mean log-loss of each window's tokens in bits, shape (n_windows,) each.
    """
    value, variance = auc(-losses, -others)
    return Perplexity(
        text_bits=rounded(losses.mean()),
        reference_bits=rounded(others.mean()),
        difference_bits=welch(losses, others),
        auc=_share(value, Z_95 * math.sqrt(variance)),
    )


def _counts(windows: Ints, n_tokens: int) -> csr_matrix:
    """How often each window holds each token, shape (n_windows, n_tokens)."""
    rows = np.repeat(np.arange(len(windows)), windows.shape[1])
    return csr_matrix((np.ones(windows.size), (rows, windows.ravel())), shape=(len(windows), n_tokens))


def _interval(value: float, half_width: float) -> Interval:
    return Interval(value=rounded(value), low=rounded(value - half_width), high=rounded(value + half_width))


def _share(value: float, half_width: float) -> Interval:
    """The interval of a number that is between 0 and 1."""
    return Interval(
        value=rounded(value), low=rounded(max(0.0, value - half_width)), high=rounded(min(1.0, value + half_width))
    )
