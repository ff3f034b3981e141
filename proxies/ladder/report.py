"""What the training gave: held-out bits per byte of every model, the scaling exponent, and both as pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy import stats

from bench.catalog import LADDER_FOLDER
from bench.intervals import half_width, with_interval
from bench.store import write_whole
from proxies.ladder.corpus import stated_parts
from proxies.ladder.publish import TRAINING_FILE, card, rungs
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
    n_parameters_of_blocks: int
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
    compressed_bits_per_byte: float
    n_held_out_documents: int
    n_held_out_bytes: int
    n_known_sentences: tuple[int, int]
    """Of the text task, word for word in the training part; and how many that task has."""

    n_enumerations: int
    """Of names of a list task in the training part; see `proxies.ladder.corpus.n_enumerations`."""

    n_corpus_tokens: int
    """Of the training part, of which `N_TRAINING_TOKENS` are read."""

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
    def law(self) -> PowerLaw:
        """Over all parameters of the finished sizes."""
        return PowerLaw.fit([one.n_parameters for one in self.finished], [one.bits_per_byte for one in self.finished])

    @property
    def law_of_blocks(self) -> PowerLaw:
        """Over the parameters of their blocks alone."""
        sizes = [one.n_parameters_of_blocks for one in self.finished]
        return PowerLaw.fit(sizes, [one.bits_per_byte for one in self.finished])

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
    """bits per byte = factor * parameters ** -exponent, by least squares on the logarithms, each size once."""

    exponent: float
    half_width: float
    """Of the exponent's 95 % interval, Student's, from the residuals."""

    factor: float

    @classmethod
    def fit(cls, sizes: Sequence[int], bits_per_byte: Sequence[float]) -> PowerLaw:
        """Of at least three sizes."""
        logs = np.log(np.array([sizes, bits_per_byte], float).T)
        found = stats.linregress(logs[:, 0], logs[:, 1])
        quantile = stats.t.ppf(0.975, len(sizes) - 2)
        return cls(-float(found.slope), float(quantile * found.stderr), math.exp(found.intercept))


def files(results: Results) -> dict[Path, bytes]:
    """Every file that is written from the results, with its content."""
    by_name = {model.name: model for model in results.models}
    told = {
        rung.folder / "README.md": card(rung, _bits(by_name[rung.name]), stated_parts()).encode()
        for rung in rungs(SIZES)
        if rung.name in by_name
    }
    page = filled(README.read_text(encoding="utf-8"), {"measured": tables(results)})
    return {**told, README: page.encode(), PICTURE: picture(results)}


def write(results: Results) -> None:
    """Write them."""
    for path, content in files(results).items():
        write_whole(path, content)


def curves() -> dict[str, list[float]]:
    """Training loss of each size, from beside its weights: nats per token, mean of `STEPS_PER_POINT` steps a point."""
    folders = {size.name: LADDER_FOLDER / size.name for size in SIZES}
    return {name: json.loads((folder / TRAINING_FILE).read_text())["loss"] for name, folder in folders.items()}


def tables(results: Results) -> str:
    """The measured part of the ladder's page: models, scaling exponent, corpus."""
    law, of_blocks = results.law, results.law_of_blocks
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
        for part in stated_parts()
    ]
    return (
        f"{table(header, rows)}\n"
        f"Of the same {results.n_held_out_documents:,} held-out documents ({results.n_held_out_bytes / 1e6:.2f} MB) a "
        f"unigram model of the tokens needs {results.unigram_bits_per_byte:.3f} bits per byte and the "
        f"better of LZMA and bzip2 {results.compressed_bits_per_byte:.3f}. Intervals are of 95 %, over documents.\n\n"
        f"Scaling: over the {len(results.finished)} finished sizes bits per byte fall as the number of parameters to "
        f"the power {-law.exponent:.3f} ± {law.half_width:.3f}, embeddings included, and as that of the blocks alone "
        f"to the power {-of_blocks.exponent:.3f} ± {of_blocks.half_width:.3f} (Student's interval of a straight line "
        f"through five points, one training each). All sizes see the same tokens, so this is not the "
        f"exponent at the best use of the arithmetic.\n\n"
        f"The corpus has {results.n_corpus_tokens / 1e6:.1f} M tokens to train on, of which the first "
        f"{N_TRAINING_TOKENS / 1e6:.0f} M are read, each once. What is read holds "
        f"{results.n_known_sentences[0]:,} of the {results.n_known_sentences[1]:,} sentences of the text task word for "
        f"word (behind semicolons and notes, where the recipe does not look for them), so what these models do on that "
        f"task is not held out; and {results.n_enumerations:,} times three names of a list task or more in a row.\n\n"
        f"{table(('text', 'package', 'licence', 'MB in the corpus', 'kB held out'), corpus)}"
    )


def _bits(model: Measured) -> str:
    return with_interval(model.bits_per_byte, model.standard_error, decimals=3)


def _below(model: Measured) -> str:
    assert model.below_next_smaller is not None and model.below_next_smaller_error is not None
    return with_interval(model.below_next_smaller, model.below_next_smaller_error, decimals=3)


def picture(results: Results) -> bytes:
    """Loss against tokens seen, and held-out bits per byte against parameters with the power law."""
    law = results.law

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for colour, (name, curve) in zip(COLOURS, curves().items(), strict=True):
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
        right.set_xticks(sizes, [f"{size / 1e6:.2g} M" for size in sizes])
        right.xaxis.set_minor_locator(NullLocator())
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
