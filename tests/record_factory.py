"""Small valid records with random numbers, for everything that reads records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.records import (
    CONDITIONS,
    METHOD_VERSION,
    SCHEMA_VERSION,
    Condition,
    EmergenceRecord,
    Grid,
    MatrixWithGaps,
    Measurement,
    ModelInfo,
    Provenance,
    RecordKey,
    Refused,
    Side,
    UnitKey,
)
from bench.summary import summarise

N_BLOCKS, N_SHOTS = 3, 2
LABELS = ("s=0.08", "s=0.16")
Place = tuple[Side, int, int]
"""Side, block and column of a cell."""
SETTINGS: dict[str, Any] = {"n_draws": 512, "headline_scale": 0.08}


def grid(rng: np.random.Generator, *shape: int, centre: float = 5.0, refused: Sequence[tuple[int, int]] = ()) -> Grid:
    values = np.round(rng.normal(centre, 1.0, shape), 6)
    errors = np.round(rng.uniform(0.01, 0.1, shape), 6)
    return Grid(values_bits=without(values, refused), errors_bits=without(errors, refused))


def without(array: np.ndarray, refused: Sequence[tuple[int, int]]) -> MatrixWithGaps:
    """The array as a matrix of a record with some of its cells refused."""
    return tuple(
        tuple(None if (block, column) in refused else value for column, value in enumerate(row))
        for block, row in enumerate(array.tolist())
    )


def unit_key(**changes: Any) -> UnitKey:
    fields: dict[str, Any] = {
        "method_version": METHOD_VERSION, "files_sha256": "w" * 64, "dtype": "float32", "bos": None,
        "sequences_sha256": "s" * 64, "estimator": "noisy_channel", "settings": SETTINGS, "seed": 0, "shuffled": False,
    }  # fmt: skip
    return UnitKey(**(fields | changes))


def make_measurement(
    rng: np.random.Generator, key: UnitKey, *, level: float = 5.0, n_sequences: int = 132,
    direction: Any = "lower bound", refused: Sequence[Place] = (), reason: str = "the block is a bijection",
) -> Measurement:  # fmt: skip
    n_positions = 2 * N_SHOTS
    cells = {side: [place[1:] for place in refused if place[0] == side] for side in ("macro", "micro", "shuffled")}
    return Measurement(
        key=key,
        names=("France", "Spain", "Italy"),
        n_sequences=n_sequences,
        n_tokens_computed=300,
        n_tokens_plain=528,
        forward_difference=1e-6,
        headline="s=0.08",
        direction=direction,
        n_prefixes=(12, 12, 132, 132),
        macro={label: grid(rng, N_BLOCKS, n_positions, centre=level, refused=cells["macro"]) for label in LABELS},
        micro={label: grid(rng, N_BLOCKS, 2, centre=1.0, refused=cells["micro"]) for label in LABELS},
        micro_of_position=(0, 1, 0, 1),
        macro_ceiling_bits=((13.5,) * n_positions,) * N_BLOCKS,
        micro_ceiling_bits=((9.0, 9.0),) * N_BLOCKS,
        macro_cap_bits=without(np.full((N_BLOCKS, n_positions), 13.5), cells["macro"]),
        micro_cap_bits=without(np.full((N_BLOCKS, 2), 9.0), cells["micro"]),
        shuffled=grid(rng, N_BLOCKS, n_positions, centre=0.0, refused=cells["shuffled"]) if key.shuffled else None,
        refusals=tuple(Refused(side=side, reason=reason, cells=tuple(found)) for side, found in cells.items() if found),
        seconds=1.0,
    )


def make_record(
    *, model: str = "tiny", task: str = "country", seed: int = 0, level: float = 8.0, is_enumerated: bool = True,
    weights: str = "w" * 64, bos: bool = False, bos_policy: str = "tokenizer", direction: str = "lower bound",
    refused: Mapping[Condition, Sequence[Place]] | None = None, reason: str = "the block is a bijection",
    **key_changes: Any,
) -> EmergenceRecord:  # fmt: skip
    """A record whose trained emergence is about `level` - 0.9 bits and whose controls are about 3 bits lower."""
    rng = np.random.default_rng([seed, *f"{model} {task}".encode()])
    measurements = {
        condition: make_measurement(
            rng,
            unit_key(
                files_sha256=weights if condition != "untrained_twin" else f"twin of {weights}"[:64],
                sequences_sha256="words" if condition == "random_words" else task,
                shuffled=condition == "trained",
                seed=seed,
            ),
            level=level if condition == "trained" else level - 3,
            direction=direction,
            refused=(refused or {}).get(condition, ()),
            reason=reason,
        )
        for condition in CONDITIONS
    }
    key: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "method_version": METHOD_VERSION, "model": model, "revision": "main",
        "files_sha256": weights, "dtype": "float32", "bos": bos_policy, "task": task, "task_version": 1,
        "task_hash": "h" * 64, "preset": "quick", "n_names": 12, "n_shots": N_SHOTS,
        "limit": None if is_enumerated else 100, "estimator": "noisy_channel", "settings": SETTINGS, "seed": seed,
    }  # fmt: skip
    return EmergenceRecord(
        schema_version=SCHEMA_VERSION,
        key=RecordKey(**(key | key_changes)),
        model=ModelInfo(
            name=model, family="Tiny", variant="base", precision="float32", dtype="float32", revision="main",
            weights_sha256=weights, source="a test", licence="MIT", n_parameters=1_234_567,
            n_blocks=N_BLOCKS, d_model=16, initializer_range=0.02),
        bos_token=1 if bos else None,
        n_pool=60,
        n_survivors=40,
        demonstration_length=2,
        is_enumerated=is_enumerated,
        measurements=measurements,
        summary=summarise(measurements, n_shots=N_SHOTS, demonstration_length=2),
        provenance=Provenance(
            date="2026-01-02T03:04:05+00:00", command="bench run tiny", commit=None, versions={"bench": "0"},
            n_threads=2, device="cpu", seconds=3.0,
        ),
    )  # fmt: skip
