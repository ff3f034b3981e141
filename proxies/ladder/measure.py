"""The published models on the held-out text: the numbers of the report."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import GPT2LMHeadModel

from bench.cache import sha256_of
from bench.errors import ModelError
from bench.loading import quiet_libraries
from bench.store import write_whole
from proxies.ladder.corpus import ladder_folder, n_enumerations, n_known_sentences
from proxies.ladder.evaluate import BitsPerByte, HeldOut, compressed_bits_per_byte, token_bits, unigram_bits
from proxies.ladder.publish import rungs
from proxies.ladder.report import Measured, Results
from proxies.ladder.sizes import N_TRAINING_TOKENS, SIZES
from proxies.ladder.tokenizer import Prepared


def _document_bits(folder: Path, held_out: HeldOut) -> npt.NDArray[np.float64]:
    """Bits of each document under a model, shape (n_documents,); kept in the cache by the weights and the documents."""
    weights = sha256_of(folder / "model.safetensors")
    text = hashlib.sha256(held_out.tokens.tobytes()).hexdigest()
    path = ladder_folder() / "bits" / f"{weights[:16]}-{text[:16]}.npy"
    if path.is_file():
        kept: npt.NDArray[np.float64] = np.load(path)
        return kept
    with quiet_libraries():
        model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    bits = held_out.per_document(token_bits(model, held_out.tokens))
    content = io.BytesIO()
    np.save(content, bits)
    write_whole(path, content.getvalue())
    return bits


def measure(prepared: Prepared, tell: Callable[[str], None] = print) -> Results:
    """Bits per byte of every published model, of simpler models of the text, and what the training part holds.

    A model that was measured before is not measured again.

    Raises:
        ModelError: a model is not published yet.
    """
    held_out = HeldOut.read(prepared.corpus.held_out, prepared.held_out)
    models = []
    smaller: npt.NDArray[np.float64] | None = None  # bits of each document under the size before
    for rung in rungs(SIZES):
        tell(f"measuring {rung.name}")
        if not rung.folder.is_dir():
            raise ModelError(f"{rung.folder} is missing; `python -m proxies.ladder train` makes it")
        bits = _document_bits(rung.folder, held_out)
        whole = BitsPerByte.of(bits, held_out.n_bytes)
        is_finished = rung.name == rung.size.name
        below = BitsPerByte.of(smaller - bits, held_out.n_bytes) if is_finished and smaller is not None else None
        models.append(
            Measured(
                name=rung.name,
                n_parameters=rung.size.n_parameters,
                n_parameters_of_blocks=rung.size.n_parameters_of_blocks,
                n_tokens=rung.n_tokens,
                bits_per_byte=whole.value,
                standard_error=whole.standard_error,
                below_next_smaller=None if below is None else below.value,
                below_next_smaller_error=None if below is None else below.standard_error,
            )
        )
        smaller = bits if is_finished else smaller
    tell("looking for tasks in what was read")
    return Results(
        models=tuple(models),
        unigram_bits_per_byte=float(unigram_bits(prepared.train, held_out.tokens).sum() / held_out.n_bytes.sum()),
        compressed_bits_per_byte=compressed_bits_per_byte(prepared.corpus.held_out),
        n_held_out_documents=len(held_out.n_bytes),
        n_held_out_bytes=int(held_out.n_bytes.sum()),
        n_known_sentences=n_known_sentences(prepared.read_documents(N_TRAINING_TOKENS)),
        n_enumerations=n_enumerations(prepared.read_documents(N_TRAINING_TOKENS)),
        n_corpus_tokens=len(prepared.train),
    )
