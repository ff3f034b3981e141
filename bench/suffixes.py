"""Names of derived models: `NAME@int4`, `NAME@untrained`, `NAME@blocks=10` and several of them. No torch in here.

    @int8, @int4, @int3, @int2      the weights of the blocks rounded to so many bits, in groups of 64 inputs
    @untrained, @untrained=SEED     fresh weights: the untrained twin of seed 0, or of another seed
    @blocks=K                       the first K blocks, with the last norm and the output layer behind them

Each may be given once. Their order tells nothing, for rounding is matrix by matrix and the blocks are cut before
weights are drawn, so a name is written in one order; only weights that are rounded first and drawn afresh afterwards
are refused.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace

from bench.errors import ModelError
from bench.sources import GROUP_SIZE, NAME_LENGTH_LIMIT, Derivation, ModelEntry, quoted

BITS = (8, 4, 3, 2)
_LARGEST_SEED = 2**63 - 1
_EXPECTED = f"expected {', '.join(f'@int{bits}' for bits in BITS)}, @untrained, @untrained=SEED or @blocks=K"
_FORMS = (*(f"int{bits}" for bits in BITS), "untrained", "blocks")
_PATTERN = re.compile(
    rf"int(?P<bits>[{''.join(map(str, BITS))}])|(?P<untrained>untrained)(=(?P<seed>[0-9]{{1,19}}))?"
    r"|blocks=(?P<blocks>[1-9][0-9]{0,5})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitName:
    """A name without its last suffix, which says one way to derive a model."""

    whole: str
    rest: str
    step: Derivation


def split_suffix(name: str) -> SplitName | None:
    """Take the last suffix off a name; None if it has none.

    Raises:
        ModelError: what stands behind the last `@` says nothing; the message has all suffixes and the nearest one.
    """
    rest, at, text = name.rpartition("@")
    if not at or "/" in text or text.lower().endswith(".gguf"):  # a path may have an @ in it
        return None
    found = _PATTERN.fullmatch(text.lower())
    seed = int(found["seed"] or 0) if found and found["untrained"] else None
    if found is None or not rest or (seed or 0) > _LARGEST_SEED:
        raise ModelError(f"{quoted(name)}: {quoted('@' + text)} {_what_is_wrong(text.lower(), rest)}")
    step = Derivation(
        n_blocks=int(found["blocks"]) if found["blocks"] else None,
        untrained_seed=seed,
        n_bits=int(found["bits"]) if found["bits"] else None,
    )
    return SplitName(whole=name, rest=rest, step=step)


def derived(entry: ModelEntry, name: SplitName) -> ModelEntry:
    """The entry of what a step makes of `entry`, a model of the same family labelled as derived.

    Raises:
        ModelError: it cannot be taken after the steps before it.
    """
    before, step = entry.derivation, name.step
    for field in ("n_blocks", "untrained_seed", "n_bits"):
        if getattr(before, field) is not None and getattr(step, field) is not None:
            raise ModelError(f"{quoted(name.whole)}: both {before.suffix} and {step.suffix}; leave one of them out")
    if before.n_bits is not None and step.untrained_seed is not None:
        raise ModelError(
            f"{quoted(name.whole)}: fresh weights undo {before.suffix}; to round fresh weights write "
            f"{step.suffix}@int{before.n_bits}"
        )
    whole = Derivation(
        n_blocks=before.n_blocks if step.n_blocks is None else step.n_blocks,
        untrained_seed=before.untrained_seed if step.untrained_seed is None else step.untrained_seed,
        n_bits=before.n_bits if step.n_bits is None else step.n_bits,
    )
    original = entry.original or entry
    precision = original.precision if whole.untrained_seed is None else "float32"  # in which fresh weights are drawn
    return replace(
        original,
        name=_with_suffix(original.name, whole.suffix),
        n_parameters=original.n_parameters if whole.n_blocks is None else None,
        precision=precision if whole.n_bits is None else f"int{whole.n_bits} (group {GROUP_SIZE}) of {precision}",
        derivation=whole,
        original=original,
    )


def _with_suffix(name: str, suffix: str) -> str:
    """Of a long name the end, so that the suffix still fits a record."""
    room = NAME_LENGTH_LIMIT - len(suffix)
    return (name if len(name) <= room else f"...{name[3 - room :]}") + suffix


def _what_is_wrong(text: str, rest: str) -> str:
    if not rest:
        return "stands behind no name of a model; `bench models` lists the names"
    head, _, value = text.partition("=")
    if head == "blocks":
        return "needs the number of blocks to keep, from 1, such as @blocks=10"
    if head == "untrained" and "=" in text:
        return f"has {quoted(value)} for a seed; choose one in 0..2**63-1, such as @untrained=1"
    near = difflib.get_close_matches(head, _FORMS, n=1)
    meant = f"; did you mean @{near[0]}{'=K' if near[0] == 'blocks' else ''}?" if near else ""
    return f"is no way to derive a model; {_EXPECTED}{meant}"
