"""Emergence of a model from what it writes: the text probe as rows to be predicted from, beside what is cheaper."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.errors import UsageError
from bench.fits import TEXT_PROBE, Excluded
from bench.probe_records import ProbeKey, ProbeRecord
from proxies.regression import FEWEST_FAMILIES, FEWEST_MODELS, emergence_of_models
from proxies.validation import Predictor, Problem
from tasks import RANKED_TASKS

TEXT_PROBE_BESIDE = "text probe beside perplexity"

_INPUTS = ("text_probe", "perplexity_difference", "bag_of_tokens", "counted_difference")


def texts_problem(frame: pd.DataFrame, probes: Sequence[ProbeRecord], *, proxy: str) -> Problem:
    """Emergence of the models of a family that the fit has not seen, from text that they wrote, read by one proxy.

    The text probe is the difference of emergence between a writer's text and one that all writers share.

    Args:
        frame: cells, as `proxies.features.cells` gives them.
        probes: records of the text probe; `writer` is the name of a model.

    Raises:
        UsageError: too few models or families, with the counts; there is nothing to predict, or nothing to do it from.
    """
    alike, excluded = probed_alike(probes, proxy)
    by_writer, left = _of_writers(alike)
    excluded += left
    emergence, lacking = emergence_of_models(frame, ("emergence",))
    emergence, left = _one_row_a_name(emergence)
    excluded += [*lacking, *left, *_unmatched(by_writer, emergence, [*excluded, *lacking, *left])]
    found = emergence.merge(by_writer, left_on="model", right_on="writer").sort_values("model", kind="stable")
    excluded += [
        Excluded(what=name, reason="its number of parameters is not known")
        for name in found.loc[found["n_parameters"].isna(), "model"]
    ]
    found = found[found["n_parameters"].notna()].reset_index(drop=True)
    _refuse(found, proxy)
    found = found.assign(
        y=found["emergence"], log_parameters=np.log(found["n_parameters"]), task="", n_shots=math.nan,
        fold=found["family"], unit=found["model"], block=found["family"],
    )  # fmt: skip
    return Problem(
        frame=found,
        unit="bits",
        fold_unit="family",
        predictors=(
            Predictor(name="the mean", role="baseline"),
            Predictor(name="parameters", role="baseline", columns=("log_parameters",)),
            Predictor(name="perplexity of the text", role="baseline", columns=("perplexity_difference",)),
            Predictor(name="bag of tokens", role="baseline", columns=("bag_of_tokens",)),
            Predictor(name="counting tokens", role="baseline", columns=("counted_difference",)),
            Predictor(name=TEXT_PROBE, role="tested", columns=("text_probe",)),
            Predictor(
                name=TEXT_PROBE_BESIDE,
                role="both",
                columns=("perplexity_difference", "text_probe"),
                given=("perplexity_difference",),
            ),
        ),
        proxies=(proxy,),
        excluded=tuple(excluded),
        remarks=_remarks(alike[0].key, found),
    )


def probed_alike(probes: Sequence[ProbeRecord], proxy: str) -> tuple[list[ProbeRecord], list[Excluded]]:
    """The records through a proxy whose numbers compare, by writer and text; and those left out.

    They share weights of the proxy, reference, windows, groups and estimator: all that most writers have in common.

    Raises:
        UsageError: no text of a writer who is named was read by this proxy.
    """
    through = sorted((record for record in probes if record.key.model == proxy), key=lambda record: record.key.digest())
    named = [record for record in through if record.key.writer]
    if not named:
        known = sorted({record.key.model for record in probes if record.key.writer})
        raise UsageError(
            f"no text of a known writer was read by '{proxy[:80]}'; read some with `bench probe --text FILE --writer "
            f"MODEL --proxy {proxy[:80]}`" + (f"; there are texts read by {', '.join(known)}" if known else "")
        )
    excluded = [
        Excluded(what=record.key.text, reason="the probe does not say who wrote it")
        for record in through
        if not record.key.writer
    ]
    writers = Counter(way for way, _ in {(_way(record.key), record.key.writer) for record in named})
    usual = max(writers, key=lambda way: (writers[way], way))
    alike = sorted(
        (record for record in named if _way(record.key) == usual),
        key=lambda record: (record.key.writer or "", record.key.text_sha256, record.key.digest()),
    )
    excluded += [
        Excluded(
            what=record.key.writer or "",
            reason="its text was read in another way (reference, windows, groups, settings) than those of most writers",
        )
        for record in named
        if _way(record.key) != usual and record.key.writer not in {one.key.writer for one in alike}
    ]
    return alike, excluded


def text_inputs(record: ProbeRecord) -> dict[str, float]:
    """What one text says of its writer, at the most windows.

    Raises:
        UsageError: most macro terms are at the most that they can say.
    """
    headline = record.headline
    if headline.is_saturated:
        raise UsageError(
            f"the text of {record.key.writer or record.key.text} is saturated at {headline.n_windows} windows: its "
            "emergence says nothing; take fewer groups, or a coarser scale"
        )
    values = (
        headline.difference_bits,
        headline.perplexity.difference_bits,
        headline.bag_of_tokens,
        headline.counted_bits,
    )
    return {name: number.value for name, number in zip(_INPUTS, values, strict=True)}


def read_alike(one: ProbeKey, other: ProbeKey) -> bool:
    """Whether the numbers of two probes compare."""
    return _way(one) == _way(other)


def _way(key: ProbeKey) -> str:
    """All that two probes must share for their numbers to compare."""
    shared = key.model_dump(mode="json", exclude={"text", "text_sha256", "writer", "reference", "reference_writer"})
    return json.dumps(shared | {"sizes": key.sizes[-1]}, sort_keys=True)


def _of_writers(alike: Sequence[ProbeRecord]) -> tuple[pd.DataFrame, list[Excluded]]:
    """One row a writer: its inputs, the mean over its texts; and those that have none."""
    excluded: list[Excluded] = []
    texts: defaultdict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    written_by: dict[str, str] = {}
    for record in alike:
        writer, sha256 = record.key.writer or "", record.key.text_sha256
        first = written_by.setdefault(sha256, writer)
        if first != writer:
            excluded.append(Excluded(what=writer, reason=f"its text is that of {first}, word for word"))
            continue
        try:
            texts[writer][sha256] = text_inputs(record)
        except UsageError as error:
            excluded.append(Excluded(what=writer, reason=str(error)))
    rows = [
        {"writer": writer, "texts_sha256": tuple(by_text)}
        | {name: math.fsum(one[name] for one in by_text.values()) / len(by_text) for name in _INPUTS}
        for writer, by_text in texts.items()
        if by_text
    ]
    return pd.DataFrame(rows, columns=["writer", "texts_sha256", *_INPUTS]), excluded


def _one_row_a_name(emergence: pd.DataFrame) -> tuple[pd.DataFrame, list[Excluded]]:
    """A probe knows its writer by name only: names of several sets of weights are left out."""
    is_several = emergence.duplicated("model", keep=False)
    reason = "its emergence is that of several sets of weights, and the probe does not say which of them wrote"
    excluded = [Excluded(what=name, reason=reason) for name in sorted(set(emergence.loc[is_several, "model"]))]
    return emergence[~is_several], excluded


def _unmatched(by_writer: pd.DataFrame, emergence: pd.DataFrame, known: Sequence[Excluded]) -> list[Excluded]:
    """Writers without emergence and models without a text that are not left out for another reason."""
    told = {one.what for one in known}
    writers, models = set(by_writer["writer"]), set(emergence["model"])
    return [
        *(Excluded(what=name, reason="its emergence is not measured") for name in sorted(writers - models - told)),
        *(Excluded(what=name, reason="no text of it was read") for name in sorted(models - writers - told)),
    ]


def _refuse(found: pd.DataFrame, proxy: str) -> None:
    families = sorted(set(found["family"]))
    if len(found) < FEWEST_MODELS or len(families) < FEWEST_FAMILIES:
        shown = f" ({', '.join(families)})" if families else ""
        raise UsageError(
            f"{len(found)} models of {len(families)} families{shown} have their emergence measured and a text read by "
            f"{proxy}, and at least {FEWEST_MODELS} models of {FEWEST_FAMILIES} families are needed; measure more with "
            "`bench run MODEL`, collect text with `bench collect MODEL`, and read it with `bench probe --writer MODEL`"
        )
    for column, what in (("emergence", "the emergence of all models"), ("text_probe", "the text probe")):
        if found[column].nunique() < 2:
            raise UsageError(f"{what} is the same in all {len(found)} rows: there is nothing to learn from it")


def _remarks(key: ProbeKey, found: pd.DataFrame) -> tuple[str, ...]:
    whose = f" ({key.reference_writer})" if key.reference_writer else ""
    remarks = [
        f"text probe: emergence of a text minus that of {key.reference}{whose}, both read by {key.model}, "
        f"{key.sizes[-1]} windows a side",
        f"emergence is the mean over {', '.join(RANKED_TASKS)} at the last shot",
    ]
    several = found.loc[found["texts_sha256"].map(len) > 1, "model"]
    if len(several):
        remarks.append(f"of several texts of one writer the mean counts: {', '.join(several)}")
    if key.model in set(found["model"]):
        remarks.append(f"{key.model} read its own text too, which is easier for it than that of the others")
    return tuple(remark[:1000] for remark in remarks)
