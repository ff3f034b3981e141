"""Two texts through small models: does emergence tell them apart, and does it take more than counting tokens?

After arXiv 2405.12617, section 5.4, with three departures: the two texts get equally many windows, no number comes from
data that something was trained on, and the interval is that of the texts' sampling, not only of the estimator.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.activations import Extractor, device_of
from bench.catalog import resolve
from bench.errors import UsageError
from bench.estimators import Estimator
from bench.measure import measure
from bench.models import (
    LoadedModel,
    Tokenizer,
    WeightsIdentity,
    bos_token_id,
    checked_device,
    find_blocks,
    identify,
    load,
    load_tokenizer,
    model_info,
)
from bench.probe_baselines import bag_of_tokens, perplexity, welch
from bench.probe_records import (
    PROBE_METHOD_VERSION,
    PROBE_SCHEMA_VERSION,
    Comparison,
    ProbeKey,
    ProbeRecord,
    Terms,
    TextInfo,
)
from bench.progress import Progress
from bench.provenance import Start, provenance
from bench.records import METHOD_VERSION, MatrixWithGaps, Measurement, UnitKey, as_array, is_saturated, rounded
from bench.request import changed_settings, make_estimator
from bench.run import N_CHECKED, encoder
from bench.sources import ModelEntry, pinned
from bench.store import Store
from bench.summary import emergence_of, exact_of
from bench.task_names import find_tasks, task_options
from tasks.prompts import Encode, PromptError, windows
from tasks.seeds import generator
from tasks.task import TextTask

Ints = npt.NDArray[np.int64]

WINDOW = 8
"""Tokens of a window, as in arXiv 2405.12617."""

N_GROUPS = 8
"""Groups a side: 14 degrees of freedom, at which Student's interval is 9 % wider than the normal one."""

SMALLEST_GROUP = 12
"""Windows of a group at least: below it the cap, log2 of their number, is hardly above what single tokens carry."""

SMALLEST_SIZE = 100
"""The first of the numbers of windows at which the texts are compared; each further one is twice as large."""

MOST_WINDOWS = 1600
"""Windows a side where none is asked for."""

BOUNDED = ("noisy_channel", "crossfit_nce")
"""Estimators that never pass their cap, so that no number of theirs is more than its windows can vouch for."""

HEADLINE_SCALE = "0.32"
"""Of `noisy_channel`: the finest of its scales at which groups of 100 and more windows are not saturated. The finer one
that lists of demonstrations have, which share most of their tokens, tells every two windows of a text apart."""

LOSS_BATCH = 64
"""Windows whose next-token probabilities are held at a time: 300 MB with the largest vocabularies."""

MEMORY_BYTES = 4 << 30
"""For the states of a group; what does not fit is kept in a temporary file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """Which texts to compare, and through which proxies.

    Attributes:
        text, reference: as `bench.task_names.find_tasks` gives them.
        proxies: names, folders, GGUF files or hub ids, as `bench.catalog.resolve` takes them.
        window: tokens of a window.
        n_windows: windows on each side; None takes what both texts have, at most `MOST_WINDOWS`.
        sizes: smaller numbers of windows at which to compare too; none takes `SMALLEST_SIZE` and its doubles.
        n_groups: disjoint groups that the windows of each side are dealt into.
        settings: (name, value) of each setting of the estimator that is not to have its default.
        writer, reference_writer: who wrote the two texts.
    """

    text: TextTask
    reference: TextTask
    proxies: tuple[str, ...]
    out: Path
    window: int = WINDOW
    n_windows: int | None = None
    sizes: tuple[int, ...] = ()
    n_groups: int = N_GROUPS
    estimator: str = "noisy_channel"
    settings: tuple[tuple[str, str], ...] = ()
    writer: str | None = None
    reference_writer: str | None = "people"
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutcome:
    """One record, and whether it was there before."""

    record: ProbeRecord
    path: Path
    was_there: bool


def probe(request: ProbeRequest, progress: Progress) -> tuple[ProbeOutcome, ...]:
    """Compare the two texts through every proxy; returns one outcome each, in the order asked for.

    Raises:
        UsageError: the request cannot be met: an unknown proxy, too few windows, sizes that make no groups. All of it
            is looked at before anything is measured, but what only an estimator can tell of its data.
        StorageError: the results folder cannot be written.
    """
    store, start = Store(request.out), Start.now()
    estimator = _checked(request)
    plans = []
    for entry in dict.fromkeys(map(resolve, request.proxies)):
        plans.append(_plan(request, estimator, entry, progress))
        if store.probe(plans[-1].key) is None:
            store.check_writable(entry.name, kind="probe")
    outcomes = []
    for plan in plans:
        known = store.probe(plan.key)
        if known is not None:
            outcomes.append(ProbeOutcome(record=known, path=store.probe_path(plan.key), was_there=True))
            continue
        if outcomes:
            gc.collect()  # one proxy in memory at a time
        record = _carry_out(request, estimator, plan, start, progress)
        outcomes.append(ProbeOutcome(record=record, path=store.write_probe(record), was_there=False))
    return tuple(outcomes)


def text_named(option: str, name: str) -> TextTask:
    """A text as `find_tasks` takes it: a plain-text file, or the name of a text that is shipped or on the hub.

    Raises:
        UsageError: it cannot be read or holds no sentence; the message names the option.
    """
    try:
        (task,) = find_tasks([], texts=[name])
    except UsageError as error:
        raise UsageError(f"{option}: {str(error).replace('--text', option)}") from error
    assert isinstance(task, TextTask), "every text is a text task"
    return task


def text_sha256(task: TextTask) -> str:
    """SHA-256 of the sentences of a text, one a line: of the file itself where that is how it is written."""
    return hashlib.sha256("".join(f"{sentence}\n" for sentence in task.sentences).encode()).hexdigest()


def _checked(request: ProbeRequest) -> Estimator:
    """The estimator of a request, all of which is looked at apart from its proxies."""
    if not request.proxies:
        raise UsageError("nothing to do: give at least one proxy")
    if request.window < 2:
        raise UsageError(f"--window must be at least 2 (one token has no token before it), got {request.window}")
    if request.n_groups < 2:
        raise UsageError(f"--groups must be at least 2 (an interval needs their spread), got {request.n_groups}")
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2**63 - 1, got {request.seed}")
    for option, name in (("--writer", request.writer), ("--reference-writer", request.reference_writer)):
        if name is not None and not 0 < len(name) <= 300:
            raise UsageError(f"{option} must have 1 to 300 characters, got {len(name)}; shorten it or leave it out")
    fewest = request.n_groups * SMALLEST_GROUP
    for n_windows in (*request.sizes, *([] if request.n_windows is None else [request.n_windows])):
        if n_windows < fewest:
            raise UsageError(
                f"expected at least {fewest} windows a side ({request.n_groups} groups of {SMALLEST_GROUP}), got "
                f"{n_windows}; ask for more, or lower --groups"
            )
    if request.n_windows is not None and max(request.sizes, default=0) > request.n_windows:
        raise UsageError(
            f"--sizes may not pass --windows, got {max(request.sizes)} and {request.n_windows}; leave --windows out, "
            "or raise it"
        )
    if request.estimator not in BOUNDED:
        raise UsageError(
            f"expected one of {', '.join(BOUNDED)}, whose numbers never pass the logarithm of the number of windows, "
            f"got {request.estimator!r}"
        )
    checked_device(request.device)
    settings = request.settings
    if request.estimator == "noisy_channel" and not {"headline_scale", "scales"} & {name for name, _ in settings}:
        settings = (*settings, ("headline_scale", HEADLINE_SCALE))
    return make_estimator(request.estimator, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The windows of both texts in random order, each on one side only, shapes (n_dealt, window)."""

    text: Ints
    reference: Ints
    infos: tuple[TextInfo, TextInfo]
    n_shared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What there is to do for one proxy."""

    entry: ModelEntry
    identity: WeightsIdentity
    windows: _Windows
    key: ProbeKey

    @property
    def n_control(self) -> int:
        """Windows a side of the control; 0 where the reference is too short for one."""
        n_control = min(self.key.sizes[-1], len(self.windows.reference) // 2)
        return n_control if n_control >= self.key.n_groups * SMALLEST_GROUP else 0


def _plan(request: ProbeRequest, estimator: Estimator, entry: ModelEntry, progress: Progress) -> _Plan:
    """Look at a proxy without loading it: what windows the texts have under its tokenizer, and at what sizes."""
    progress.stage(f"{entry.name}: finding the weights")
    identity = identify(entry, progress.stage)
    entry = pinned(entry, identity.revision)
    tokenizer = load_tokenizer(entry, progress.stage)
    progress.stage(f"{entry.name}: cutting the windows")
    found = _draw(request, tokenizer)
    return _Plan(
        entry=entry,
        identity=identity,
        windows=found,
        key=ProbeKey(
            schema_version=PROBE_SCHEMA_VERSION,
            method_version=PROBE_METHOD_VERSION,
            model=entry.name,
            revision=identity.revision,
            files_sha256=identity.files_sha256,
            dtype="float32",
            bos=bos_token_id(tokenizer),
            text=request.text.name,
            text_sha256=text_sha256(request.text),
            writer=request.writer,
            reference=request.reference.name,
            reference_sha256=text_sha256(request.reference),
            reference_writer=request.reference_writer,
            window=request.window,
            sizes=_sizes(request, found),
            n_groups=request.n_groups,
            estimator=estimator.name,
            settings=dict(estimator.settings),
            seed=request.seed,
        ),
    )


def _draw(request: ProbeRequest, tokenizer: Tokenizer) -> _Windows:
    """The distinct windows of both texts, those that occur in both dealt to one side each by a coin."""
    tasks, encode = (request.text, request.reference), functools.cache(encoder(tokenizer))
    full = [_full_windows(task, encode, request.window) for task in tasks]
    distinct = [list(dict.fromkeys(map(tuple, sequences.tolist()))) for sequences in full]
    shared = sorted(set(distinct[0]) & set(distinct[1]))
    coins = generator(request.seed, "probe", "shared windows").random(len(shared)) < 0.5
    elsewhere: list[set[tuple[int, ...]]] = [set(), set()]
    for window, coin in zip(shared, coins.tolist(), strict=True):
        elsewhere[coin].add(window)
    dealt: list[Ints] = []
    for task, side, found in zip(tasks, ("text", "reference"), distinct, strict=True):
        kept = [window for window in found if window not in elsewhere[len(dealt)]]
        order = generator(request.seed, "probe", side, task.name).permutation(len(kept))
        dealt.append(np.array(kept, dtype=np.int64).reshape(-1, request.window)[order])
    text_info, reference_info = (
        TextInfo(n_sentences=len(task.sentences), n_full=len(sequences), n_windows=len(found), n_dealt=len(left))
        for task, sequences, found, left in zip(tasks, full, distinct, dealt, strict=True)
    )
    return _Windows(text=dealt[0], reference=dealt[1], infos=(text_info, reference_info), n_shared=len(shared))


def _full_windows(task: TextTask, encode: Encode, n_tokens: int) -> Ints:
    """The windows of all sentences that are long enough, in the order of the text, shape (n_full, n_tokens)."""
    try:
        n_full = windows(task, encode, n_windows=2, n_tokens=n_tokens, rng=generator(0)).n_survivors
        return windows(task, encode, n_windows=n_full, n_tokens=n_tokens, rng=generator(0)).sequences
    except PromptError:  # fewer than two: refused with the counts of both texts
        return np.empty((0, n_tokens), dtype=np.int64)


def _sizes(request: ProbeRequest, found: _Windows) -> tuple[int, ...]:
    """The numbers of windows at which to compare, ascending.

    Raises:
        UsageError: there are fewer windows than the largest of them, or than any comparison needs.
    """
    n_there = min(len(found.text), len(found.reference))
    fewest = request.n_groups * SMALLEST_GROUP
    asked = max(request.n_windows or 0, *request.sizes, 0)
    if n_there < max(asked, fewest):
        text, reference = found.infos
        shared = f", of which {found.n_shared} occur in both and were dealt to one" if found.n_shared else ""
        raise UsageError(
            f"expected at least {max(asked, fewest)} distinct windows of {request.window} tokens on each side, got "
            f"{text.n_windows} from {text.n_sentences} sentences of {request.text.name!r} and {reference.n_windows} "
            f"from {reference.n_sentences} of {request.reference.name!r}{shared}; give longer texts, or lower "
            + ("--windows, --sizes or --window" if asked > fewest else "--window or --groups")
        )
    largest = asked or min(n_there, MOST_WINDOWS)
    if request.sizes:
        return tuple(sorted({*request.sizes, largest}))
    doubles = (SMALLEST_SIZE << power for power in range(largest.bit_length()))
    return (*(size for size in doubles if fewest <= size <= 0.8 * largest), largest)  # none that says the same twice


def _carry_out(
    request: ProbeRequest, estimator: Estimator, plan: _Plan, start: Start, progress: Progress
) -> ProbeRecord:
    """Measure through one proxy, which is let go of on return."""
    started = time.perf_counter()
    key, found = plan.key, plan.windows
    progress.stage(f"{plan.entry.name}: loading")
    loaded = load(plan.entry, dtype="float32", device=request.device, progress=progress.stage, expected=plan.identity)
    model, sample = loaded.model, found.text[:N_CHECKED]
    through = _Proxy(
        loaded=loaded,
        extractor=Extractor(model, find_blocks(model), bos=key.bos, sample=sample),
        key=key,
        estimator=estimator,
        progress=progress,
        device=request.device,
    )
    n_measured = 2 * len(key.sizes)
    if plan.n_control:
        n_measured += 1 if plan.n_control in key.sizes else 2
    progress.plan(n_measured * key.n_groups * loaded.n_blocks)
    comparisons = tuple(through.compare(found.text[:size], found.reference[:size]) for size in key.sizes)
    halves = (found.reference[: plan.n_control], found.reference[plan.n_control : 2 * plan.n_control])
    control = through.compare(*halves) if plan.n_control else None
    return ProbeRecord(
        schema_version=PROBE_SCHEMA_VERSION,
        key=key,
        model=model_info(loaded),
        text=found.infos[0],
        reference=found.infos[1],
        n_shared=found.n_shared,
        comparisons=comparisons,
        control=control,
        provenance=provenance(
            start,
            command=_equivalent_command(key, changed_settings(estimator)),
            device=request.device,
            seconds=time.perf_counter() - started,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proxy:
    """A loaded proxy, and what it has measured so far, by the contents of the windows."""

    loaded: LoadedModel
    extractor: Extractor
    key: ProbeKey
    estimator: Estimator
    progress: Progress
    device: str
    known: dict[str, Measurement] = field(default_factory=dict)

    def compare(self, text: Ints, reference: Ints) -> Comparison:
        """Emergence and the baselines of two equally large samples of windows, shape (n_windows, window) each."""
        groups = tuple(np.arange(first, len(text), self.key.n_groups) for first in range(self.key.n_groups))
        measured = [[self._measured(side[rows]) for rows in groups] for side in (text, reference)]
        curves = {
            label: [np.array([_emergence(group, label)[-1] for group in side]) for side in measured]
            for label in self.estimator.labels
        }
        losses = [log_losses_bits(self.loaded, side, bos=self.key.bos) for side in (text, reference)]
        return Comparison(
            n_windows=len(text),
            text=_terms(measured[0]),
            reference=_terms(measured[1]),
            difference_bits=welch(*curves[self.estimator.headline]),
            curve_bits={label: welch(*sides) for label, sides in curves.items()},
            counted_bits=welch(*(np.array([_counted(group) for group in side]) for side in measured)),
            bag_of_tokens=bag_of_tokens(text, reference, groups),
            perplexity=perplexity(*losses),
        )

    def _measured(self, sequences: Ints) -> Measurement:
        sha256 = hashlib.sha256(sequences.tobytes()).hexdigest()
        if sha256 not in self.known:
            self.known[sha256] = self._measure(sequences, sha256)
        return self.known[sha256]

    def _measure(self, sequences: Ints, sha256: str) -> Measurement:
        found = measure(
            key=UnitKey(
                method_version=METHOD_VERSION,
                files_sha256=self.loaded.files_sha256,
                dtype=self.key.dtype,
                bos=self.key.bos,
                sequences_sha256=sha256,
                estimator=self.key.estimator,
                settings=self.key.settings,
                seed=self.key.seed,
                shuffled=False,
            ),
            names=(),
            sequences=sequences,
            extractor=self.extractor,
            estimator=self.estimator,
            device=self.device,
            memory_bytes=MEMORY_BYTES,
            on_block=lambda: self.progress.block(f"{self.key.model}: groups of {len(sequences)} windows"),
        )
        if found.refusals:
            first = found.refusals[0]
            raise UsageError(
                f"{self.key.estimator} has no answer for a group of {len(sequences)} windows: {first.reason}; lower "
                "--groups, raise --windows and --sizes, or take --estimator noisy_channel"
            )
        return found


def _terms(groups: list[Measurement]) -> Terms:
    emergence = np.array([_emergence(group, group.headline) for group in groups])  # (n_groups, window)
    last = [_last(group.macro[group.headline].values_bits) for group in groups]
    caps = [_last(group.macro_cap_bits) for group in groups]
    macro = [rounded(values.mean()) for values in last]
    return Terms(
        emergence_bits=tuple(map(rounded, emergence[:, -1])),
        macro_bits=tuple(macro),
        micro_bits=tuple(rounded(term - number) for term, number in zip(macro, emergence[:, -1], strict=True)),
        cap_bits=tuple(rounded(cap.mean()) for cap in caps),
        by_token_bits=tuple(map(rounded, emergence.mean(axis=0))),
        n_saturated=sum(int(is_saturated(values, cap).sum()) for values, cap in zip(last, caps, strict=True)),
        n_cells=sum(map(len, last)),
    )


def _emergence(group: Measurement, label: str) -> npt.NDArray[np.float64]:
    """Mean over blocks after each token, shape (window,), bits."""
    return emergence_of(group, label).mean_over_blocks().values


def _counted(group: Measurement) -> float:
    """Emergence after the last token with both terms counted on distinct rows, mean over blocks, bits."""
    return float(exact_of(group).values[:, -1].mean())


def _last(matrix: MatrixWithGaps) -> npt.NDArray[np.float64]:
    """The last position of every block, shape (n_blocks,)."""
    values: npt.NDArray[np.float64] = as_array(matrix)[:, -1]
    return values


@torch.inference_mode()
def log_losses_bits(loaded: LoadedModel, sequences: Ints, *, bos: int | None) -> npt.NDArray[np.float64]:
    """Mean log-loss of the tokens of each window, given those before them, in bits, shape (n_windows,).

    Without a begin-of-sequence token there is nothing before the first token, and it does not count.
    """
    tokens = torch.from_numpy(sequences if bos is None else np.insert(sequences, 0, bos, axis=1))
    losses = []
    for start in range(0, len(tokens), LOSS_BATCH):
        part = tokens[start : start + LOSS_BATCH].to(device_of(loaded.model))
        logits = loaded.model(input_ids=part, use_cache=False).logits[:, :-1].float()  # (n, n_predicted, n_vocabulary)
        chosen = logits.log_softmax(dim=-1).gather(2, part[:, 1:, None])[..., 0]  # (n, n_predicted)
        losses.append(-chosen.double().mean(dim=1).cpu() / np.log(2))
    return torch.cat(losses).numpy()


def _equivalent_command(key: ProbeKey, settings: tuple[tuple[str, str], ...]) -> str:
    """The command that measures the same, on a machine where files and proxy go by the same names."""
    command = ["bench", "probe"]
    for option, name in (("--text", key.text), ("--reference", key.reference)):
        command += [option, task_options(name)[1]]
    command += ["--proxy", key.model, "--window", str(key.window)]
    command += ["--sizes", ",".join(map(str, key.sizes)), "--groups", str(key.n_groups)]
    for option, writer in (("--writer", key.writer), ("--reference-writer", key.reference_writer)):
        command += [] if writer is None else [option, writer]
    command += ["--estimator", key.estimator]
    command += [part for name, value in settings for part in ("--setting", f"{name}={value}")]
    return shlex.join([*command, "--seed", str(key.seed)])
