"""Controls: what a measurement must be compared with before it means anything.

`shuffled` is here. The untrained twin is a model (`bench.models.untrained_twin`) and random words are prompts
(`tasks.prompts.random_word_population`); both are measured like anything else.
"""

from __future__ import annotations

import numpy as np

from bench.estimators.protocol import Pairs, pair_up

N_SHUFFLED = 32
"""Rows of each side in the shuffled control: 1,024 pairs, as many as the draws of the noisy channel."""


def break_pairs(pairs: Pairs, rng: np.random.Generator, *, is_sample: bool = False, n_rows: int = N_SHUFFLED) -> Pairs:
    """The same kind of rows without dependence, for an estimator that takes them for a sample or for the population.

    Of a sample: outputs drawn by their weights, independently of the inputs. What generalises finds nothing in them.

    Of a whole population: every one of `n_rows` random inputs with every one of as many outputs. A permutation would
    not do there. It turns one bijection into another, and two variables in bijection carry the whole entropy about
    each other whichever way they are matched. Independence means that every input occurs with every output, and then
    I = 0 exactly, so an estimate off 0 is an error of the estimator.
    """
    n = pairs.n_samples
    if is_sample:
        is_uniform = bool((pairs.weights == pairs.weights[0]).all())
        order = rng.permutation(n) if is_uniform else rng.choice(n, size=n, p=pairs.weights)
        return pair_up(pairs.inputs, pairs.outputs[order], pairs.weights, input_labels=pairs.input_labels)
    n_rows = min(n_rows, n)
    left = np.repeat(rng.choice(n, size=n_rows, replace=False), n_rows)
    right = np.tile(rng.choice(n, size=n_rows, replace=False), n_rows)
    return pair_up(pairs.inputs[left], pairs.outputs[right])
