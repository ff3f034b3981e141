"""Controls: what a measurement must be compared with before it means anything.

`shuffled` is here. The untrained twin is a model (`bench.models.untrained_twin`) and random words are prompts
(`tasks.prompts.random_word_population`); both are measured like anything else.
"""

from __future__ import annotations

import numpy as np

from bench.estimators.protocol import Pairs, pair_up

N_SHUFFLED = 32
"""Rows of each side in the shuffled control: 1,024 pairs, as many as the draws of the noisy channel."""


def break_pairs(pairs: Pairs, rng: np.random.Generator, n_rows: int = N_SHUFFLED) -> Pairs:
    """The same kind of rows without dependence: every one of `n_rows` random inputs with every one of as many outputs.

    A permutation would not do. On an enumerated population it turns one bijection into another, and two variables
    in bijection carry the whole entropy about each other whichever way they are matched. Independence means that every
    input occurs with every output, and then I = 0 exactly, so an estimate off 0 is an error of the estimator.
    """
    n_rows = min(n_rows, pairs.n_samples)
    left = np.repeat(rng.choice(pairs.n_samples, size=n_rows, replace=False), n_rows)
    right = np.tile(rng.choice(pairs.n_samples, size=n_rows, replace=False), n_rows)
    return pair_up(pairs.inputs[left], pairs.outputs[right])
