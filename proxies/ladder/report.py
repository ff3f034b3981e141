"""What the training gave: held-out bits per byte of every model, the scaling exponent, and both as pictures."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from bench.intervals import half_width, with_interval
from proxies.ladder.corpus import MANIFEST, Part
from proxies.ladder.publish import Rung, card, rungs
from proxies.ladder.sizes import CONTEXT_LENGTH, N_TRAINING_TOKENS, SEQUENCES_PER_STEP, SIZES
from proxies.ladder.train import STEPS_PER_POINT
from proxies.markdown import filled, table
from proxies.svg import drawn

FOLDER = Path(__file__).parent
MEASURED = FOLDER / "measured.json"
"""The numbers that everything else here is written from."""

PICTURE = FOLDER / "scaling.svg"
README = FOLDER / "README.md"

COLOURS = ("#56B4E9", "#009E73", "#E69F00", "#D55E00", "#0072B2")
SMOOTHED_POINTS = 5


@dataclass(frozen=True)
class Measured:
    """One model on the held-out text; the errors are standard errors over documents."""

    name: str
    n_parameters: int
    n_tokens: int
    bits_per_byte: float
    standard_error: float
    below_next_smaller: float | None
    """By how much fewer bits per byte than the size below it, on the same documents; None for the smallest."""

    below_next_smaller_error: float | None


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    models: tuple[Measured, ...]
    unigram_bits_per_byte: float
    lzma_bits_per_byte: float
    n_held_out_documents: int
    n_held_out_bytes: int
    n_known_sentences: tuple[int, int]
    """Of the text task, word for word in the training part; and how many that task has."""

    curves: dict[str, list[float]]
    """Training loss of each size: nats per token, mean of `STEPS_PER_POINT` steps."""

    seed: int

    @classmethod
    def read(cls) -> Results:
        """The committed results."""
        stated: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
        stated["models"] = tuple(Measured(**model) for model in stated["models"])
        stated["n_known_sentences"] = tuple(stated["n_known_sentences"])
        return cls(**stated)

    def text(self) -> str:
        """As JSON: numbers with as many digits as tell anything."""
        return json.dumps(_rounded(asdict(self)), indent=1) + "\n"

    @property
    def finished(self) -> tuple[Measured, ...]:
        """The sizes at the end of their training, smallest first."""
        names = [size.name for size in SIZES]
        return tuple(model for model in self.models if model.name in names)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value


@dataclass(frozen=True)
class PowerLaw:
    """bits per byte = factor * parameters ** -exponent, by least squares on the logarithms."""

    exponent: float
    half_width: float
    """Of the exponent's 95 % interval, Student's, from the residuals."""

    factor: float

    @classmethod
    def fit(cls, models: tuple[Measured, ...]) -> PowerLaw:
        """Of at least three models."""
        logs = np.log([[model.n_parameters, model.bits_per_byte] for model in models])
        found = stats.linregress(logs[:, 0], logs[:, 1])
        quantile = stats.t.ppf(0.975, len(models) - 2)
        return cls(-float(found.slope), float(quantile * found.stderr), math.exp(found.intercept))


def parts() -> tuple[Part, ...]:
    """The parts of the corpus, from its manifest."""
    return tuple(Part(**part) for part in json.loads(MANIFEST.read_text(encoding="utf-8"))["parts"])


def files(results: Results) -> dict[Path, str | bytes]:
    """Every file that is written from the results, with its content."""
    by_name = {model.name: model for model in results.models}
    told = {
        rung.folder / "README.md": card(rung, _bits(by_name[rung.name]), parts())
        for rung in rungs(SIZES)
        if rung.name in by_name
    }
    page = filled(README.read_text(encoding="utf-8"), {"measured": tables(results)})
    return {**told, README: page, PICTURE: picture(results)}


def write(results: Results) -> None:
    """Write them."""
    for path, content in files(results).items():
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tables(results: Results) -> str:
    """The measured part of the ladder's page: models, scaling exponent, corpus."""
    law = PowerLaw.fit(results.finished)
    rows = [
        (
            f"`{model.name}`",
            f"{model.n_parameters / 1e6:.2f} M",
            f"{model.n_tokens / 1e6:.2f} M",
            _bits(model),
            "" if model.below_next_smaller is None else _below(model),
        )
        for model in results.models
    ]
    header = ("model", "parameters", "tokens seen", "held-out bits per byte", "fewer than the next smaller size")
    corpus = [
        (
            part.title,
            f"`{part.name}`",
            part.licence,
            f"{part.n_train_bytes / 1e6:.2f}",
            f"{part.n_held_out_bytes / 1e3:.0f}",
        )
        for part in parts()
    ]
    return (
        f"{table(header, rows)}\n"
        f"Of the same {results.n_held_out_documents:,} held-out documents ({results.n_held_out_bytes / 1e6:.2f} MB) a "
        f"unigram model of the tokens needs {results.unigram_bits_per_byte:.3f} bits per byte and LZMA "
        f"{results.lzma_bits_per_byte:.3f}. Intervals are of 95 %, over documents.\n\n"
        f"Scaling: over the {len(results.finished)} finished sizes bits per byte fall as parameters to the power "
        f"{-law.exponent:.3f} ± {law.half_width:.3f} (all see the same {N_TRAINING_TOKENS / 1e6:.0f} M tokens, so this "
        f"is not the exponent at the best use of the arithmetic).\n\n"
        f"Of the {results.n_known_sentences[1]:,} sentences of the text task {results.n_known_sentences[0]:,} stand "
        f"word for word in the training part (behind semicolons and notes, where the recipe does not look for them): "
        f"what these models do on that task is not wholly held out.\n\n"
        f"{table(('text', 'package', 'licence', 'MB to train on', 'kB held out'), corpus)}"
    )


def _bits(model: Measured) -> str:
    return with_interval(model.bits_per_byte, model.standard_error, decimals=3)


def _below(model: Measured) -> str:
    assert model.below_next_smaller is not None and model.below_next_smaller_error is not None
    return with_interval(model.below_next_smaller, model.below_next_smaller_error, decimals=3)


def picture(results: Results) -> bytes:
    """Loss against tokens seen, and held-out bits per byte against parameters with the power law."""
    law = PowerLaw.fit(results.finished)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for colour, (name, curve) in zip(COLOURS, results.curves.items(), strict=True):
            smooth = np.convolve(curve, np.ones(SMOOTHED_POINTS) / SMOOTHED_POINTS, mode="valid")
            steps = (np.arange(len(smooth)) + (SMOOTHED_POINTS + 1) / 2) * STEPS_PER_POINT
            left.plot(steps * SEQUENCES_PER_STEP * CONTEXT_LENGTH / 1e6, smooth, color=colour, linewidth=1, label=name)
        left.set_ylim(top=7.5)
        left.set_xlabel("training tokens seen, millions")
        left.set_ylabel("training loss, nats per token")
        left.set_title("Training")
        left.legend(frameon=False)
        sizes = np.array([model.n_parameters for model in results.finished], float)
        grid = np.geomspace(sizes[0] / 1.2, sizes[-1] * 1.2, 50)
        right.plot(grid, law.factor * grid**-law.exponent, color="#999999", linewidth=1, linestyle="--")
        for colour, model in zip(COLOURS, results.finished, strict=True):
            error = half_width(model.standard_error)
            right.errorbar(model.n_parameters, model.bits_per_byte, error, fmt="o", color=colour, capsize=3)
            label = model.name.removeprefix("gpt2-ladder-")
            right.annotate(label, (model.n_parameters, model.bits_per_byte), (6, 6), textcoords="offset points")
        right.set_xscale("log")
        right.set_xlabel("parameters")
        right.set_ylabel("held-out bits per byte, 95 % interval")
        right.set_title(f"Scaling: power {-law.exponent:.3f} ± {law.half_width:.3f}")

    told = "; ".join(f"{model.name} {model.bits_per_byte:.3f}" for model in results.finished)
    return drawn(
        draw,
        title="The GPT-2 ladder",
        description=f"Held-out bits per byte: {told}. Power law with exponent {-law.exponent:.3f}.",
        salt="ladder",
        width=8.5,
        height=3.4,
    )


def measured(rung: Rung, bits: Any, below: Any) -> Measured:
    """A row from the bits per byte of a rung and how many fewer they are than those of the next smaller size."""
    return Measured(
        name=rung.name,
        n_parameters=rung.size.n_parameters,
        n_tokens=rung.n_tokens,
        bits_per_byte=bits.value,
        standard_error=bits.standard_error,
        below_next_smaller=None if below is None else below.value,
        below_next_smaller_error=None if below is None else below.standard_error,
    )
