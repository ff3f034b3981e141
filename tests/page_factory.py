"""A page of invented models: shaped like measured ones, the same on every machine, as large as a test wants."""

from dataclasses import replace

import numpy as np

from bench.intervals import wilson
from proxies.page_data import (
    AccuracyCurve,
    AccuracyPoint,
    Apart,
    BoardTable,
    FitBehind,
    FitPlot,
    FitPoint,
    Grid,
    HeatMap,
    Link,
    ModelRow,
    Number,
    PageData,
    ShotPoint,
)

FAMILIES = ("SmolLM2", "Gemma 3", "GPT-2 ladder", "Qwen 3", "Llama 3")
RANKED = ("animal", "colour", "country")
PAIRS = ("antonym", "country-capital", "english-spanish", "present-past", "singular-plural", "verb-gerund")


def make_grid(top: float, n_blocks: int, n_positions: int, generator: np.random.Generator) -> Grid:
    """Nothing at the first token, more with every demonstration, less in the last blocks."""
    depth = np.linspace(1.0, 0.55, n_blocks)[:, None]
    growth = np.ceil(np.arange(n_positions) / 4)[None, :] / max(1, n_positions // 4)
    values = top * depth * growth + generator.normal(0, 0.15, (n_blocks, n_positions))
    return tuple(tuple(float(value) for value in line) for line in values)


def make_heat_map(task: str, level: float, n_blocks: int, n_positions: int, seed: int = 0) -> HeatMap:
    """One cell of the emergence is refused."""
    generator = np.random.default_rng(seed)
    emergence = [list(line) for line in make_grid(level, n_blocks, n_positions, generator)]
    emergence[-1][1] = None  # type: ignore[call-overload]
    return HeatMap(
        task=task,
        emergence=tuple(tuple(line) for line in emergence),
        ceiling=make_grid(level + 3, n_blocks, n_positions, generator),
        untrained_twin=make_grid(level + 1, n_blocks, n_positions, generator),
        random_words=make_grid(level + 0.2, n_blocks, n_positions, generator),
        closing=tuple(range(3, n_positions, 4)),
    )


def make_curve(task: str, n_right: int) -> AccuracyCurve:
    points = []
    for n_shots in (0, 1, 2, 4, 8):
        right = min(100, n_right + 6 * n_shots)
        low, high = wilson(right, 100)
        points.append(
            AccuracyPoint(n_shots=n_shots, accuracy=right / 100, low=low, high=high, chance=0.01, n_questions=100)
        )
    return AccuracyCurve(task=task, mode="completion", points=tuple(points))


def make_behind(
    verdict: str = "answers do not beat their baseline (the mean): 0.48 bits larger; p = 1.00",
) -> FitBehind:
    return FitBehind(
        fit=Link(text="fit", path="results/fits/emergence/all models.json"),
        source="answers",
        error_bits=4.11,
        baseline="the mean",
        baseline_error_bits=3.63,
        n_models=21,
        n_families=3,
        beats_baseline=False,
        interval_80=None,
        measured_bits=None,
        verdict=verdict,
    )


def make_row(
    index: int = 0,
    *,
    n_tasks: int = len(RANKED),
    n_blocks: int = 8,
    n_positions: int = 12,
    n_curves: int = len(PAIRS),
    **fields: object,
) -> ModelRow:
    """Every fourth is derived from another model and has no rank; emergence falls with the index."""
    level = 10.3 - 6 * index / (index + 10)
    family = FAMILIES[index % len(FAMILIES)]
    name = f"{family.lower().replace(' ', '-')}-{index}"
    derived = index % 4 == 3
    row = ModelRow(
        rank=None if derived else index - index // 4 + 1,
        name=f"{name}@int4" if derived else name,
        family=family,
        n_parameters=None if index % 7 == 6 else 134_500_000 * (index % 5 + 1),
        type="instruct" if index % 2 else "base",
        made_from="derived" if derived else None,
        precision="int4 (group 64) of Q4_1 in float32" if derived else "Q4_1 in float32",
        bos=None if index % 7 == 6 else bool(index % 2),
        revision="sha256:a672150fb4f9",
        kind="measured",
        emergence=Number(value=level, half_width=0.05),
        ceiling=level + 3,
        over_twin=Number(value=-1.0 - level / 10, half_width=0.2),
        over_random_words=None if index % 6 == 5 else Number(value=0.002, half_width=0.003),
        performance=None if index % 5 == 4 else Number(value=0.41, half_width=0.04),
        n_samples=35_640,
        n_seeds=1 + 2 * (index % 2),
        date=f"2026-11-{23 - index % 20:02d}",
        source="PyPI, inside a wheel",
        licence="Apache-2.0",
        records=tuple(
            Link(text=f"{task} {seed}", path=f"results/emergence/{name}/{task}.quick.noisy_channel.seed{seed}.json")
            for task in RANKED
            for seed in range(3)
        ),
        behind=None,
        heat_maps=tuple(
            make_heat_map(task, level, n_blocks, n_positions, seed)
            for seed, task in enumerate([*RANKED, "mean of the ranked tasks"][-n_tasks:] if n_tasks else ())
        ),
        shots=tuple(
            ShotPoint(
                n_shots=n_shots,
                emergence=Number(value=level * n_shots / 3, half_width=0.3),
                ceiling=(level + 3) * n_shots / 3,
                untrained_twin=(level + 1) * n_shots / 3,
                random_words=None if index % 6 == 5 else (level + 0.2) * n_shots / 3,
            )
            for n_shots in (1, 2, 3)
        ),
        accuracies=tuple(make_curve(f"{PAIRS[k % 6]}{k // 6 or ''}", 5 * (k % 6)) for k in range(n_curves)),
    )
    return replace(row, **fields)  # type: ignore[arg-type]


def make_estimate(index: int = 0, **fields: object) -> ModelRow:
    """An estimate has no activations behind it, so nothing to draw over blocks."""
    estimate: dict[str, object] = dict(
        rank=None,
        name=f"closed-{index}",
        family="closed",
        n_parameters=None,
        type=None,
        made_from=None,
        precision=None,
        bos=None,
        revision="2026-10",
        kind="estimated",
        emergence=Number(value=6.3, half_width=None),
        ceiling=None,
        over_twin=None,
        over_random_words=None,
        behind=make_behind(),
        heat_maps=(),
        shots=(),
    )
    return make_row(index, **(estimate | fields))  # type: ignore[arg-type]


def make_fit(title: str = "Emergence of families not seen, from performance", n_points: int = 21) -> FitPlot:
    generator = np.random.default_rng(1)
    points = []
    for index in range(n_points):
        truth = float(generator.uniform(1, 11))
        predicted = truth + float(generator.normal(0, 1.5))
        has_interval = index % 3 > 0
        points.append(
            FitPoint(
                label=f"model-{index}",
                family=FAMILIES[index % len(FAMILIES)],
                truth=truth,
                predicted=predicted,
                low=predicted - 2 if has_interval else None,
                high=predicted + 2 if has_interval else None,
            )
        )
    return FitPlot(
        title=title,
        unit="bits",
        predictor="performance",
        points=tuple(points),
        errors=(("performance", 4.106), ("the mean", 3.628), ("the median", 4.029), ("parameters", None)),
        verdict="Performance does not beat its baseline (the mean): its held-out error is 0.48 bits larger.",
        record=Link(text="record", path="results/fits/emergence/all models.json"),
    )


def make_page(n_models: int = 12, n_estimates: int = 2, **sizes: int) -> PageData:
    """A page with one table of so many measured models and estimates.

    Args:
        sizes: of each model; see `make_row`.
    """
    rows = [make_row(index, **sizes) for index in range(n_models)]  # type: ignore[arg-type]
    rows += [make_estimate(index, **sizes) for index in range(n_estimates)]
    return page_of(*rows)


def page_of(*rows: ModelRow, **fields: object) -> PageData:
    """A page with these rows in one table."""
    data = PageData(
        title="Leaderboard",
        introduction="Emergence of language models in bits: how much more a transformer block carries about a whole "
        "list than about its tokens one by one.\n\nRead it with its controls. Emergence says that the sequence got "
        "through the block. It does not say that it was understood: compare each number with its ceiling, with the "
        "same architecture untrained, and with lists of random words.",
        tables=(
            BoardTable(
                title="Preset quick, estimator noisy_channel (s=0.16)",
                remark="Every ordered list of 4 of 12 names, fully enumerated. Settings: n_draws 640.",
                rows=rows,
            ),
        ),
        fits=(make_fit(), make_fit("Performance of families not seen, from emergence", 9)),
        apart=(
            Apart(
                what="partial, country",
                reason="incomplete or superseded",
                record=Link(text="record", path="results/emergence/partial/country.json"),
            ),
            Apart(what="emergence/x/y.json", reason="not a valid record", record=None),
        ),
        notes=(
            ("rank", "among models as published; derived models and checkpoints have a row and no rank"),
            ("emergence", "mean over blocks and over the ranked tasks, ± half the 95 % interval"),
            ("ceiling", "what emergence can be at most"),
            ("over twin", "emergence minus that of the same architecture with freshly initialised weights"),
            ("over random words", "emergence minus that of the same model on lists of random words"),
        ),
    )
    return replace(data, **fields)  # type: ignore[arg-type]
