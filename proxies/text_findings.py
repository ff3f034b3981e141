"""Probes of texts -> tables, verdict and picture of `docs/probe.md`.

`python -m proxies.text_findings [RESULTS [DOCUMENT]]`.

The prose of the document is written by hand; what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is
replaced. The picture lies in `RESULTS/probe`.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, RecordError, UsageError
from bench.escape import markdown_cell, printable
from bench.fits import FitRecord
from bench.probe_records import EVIDENCE, Evidence, Interval, ProbeRecord
from bench.store import RejectedFile, Store, read_row, write_whole
from bench.text_records import TextRecord
from proxies.markdown import filled, table
from proxies.text_findings_picture import Panel, Point, picture
from proxies.text_regression import probed_alike

DEFAULTS = (Path("results"), Path("docs/probe.md"))
PICTURE = Path("probe/picture.svg")
"""In the results folder."""

NAMES: dict[Evidence, str] = {
    "emergence": "emergence",
    "counted": "counting tokens",
    "bag_of_tokens": "bag of tokens",
    "perplexity": "perplexity",
}
CHEAPER: tuple[Evidence, ...] = tuple(evidence for evidence in EVIDENCE if evidence != "emergence")

NOTHING = "No text was read yet; read one with `bench probe`.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one proxy made of the texts, in the order in which they are shown.

    Attributes:
        records: by what a text is called: its writer, with the name of the text where there are several.
    """

    proxy: str
    records: tuple[tuple[str, ProbeRecord], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The files that were written, and what in the results folder was left out."""

    paths: tuple[Path, ...]
    left_out: tuple[str, ...]


def write_text_findings(store: Store, document: Path) -> Written:
    """Fill the document and draw its picture from all probes.

    Raises:
        StorageError: they cannot be written.
        UsageError: there are no probes or no document, or it has other places than there are parts. Nothing is written
            then.
    """
    if not (store.root / "probe").is_dir():
        raise UsageError(
            f"expected a results folder with `probe` in it, got {store.root}; read a text with `bench probe`, or name "
            "another one"
        )
    if not document.is_file():
        raise UsageError(f"there is no document {document}; its prose is written by hand and cannot be made here")
    with store.alone():
        files, left_out = contents(store, document.read_text(encoding="utf-8"))
        paths = {document: files[0], store.root / PICTURE: files[1]}
        for path, content in paths.items():
            write_whole(path, content)
    return Written(paths=tuple(paths), left_out=left_out)


def contents(store: Store, document: str) -> tuple[tuple[bytes, bytes], tuple[str, ...]]:
    """The filled document and its picture, and what was left out, in words."""
    (probes, bad_probes), (fits, bad_fits) = store.probes(), store.fits()
    ranks, bad_texts = _ranks(store)
    readings, left_out = readings_of([item.record for item in probes], ranks)
    of_texts = [item.record for item in fits if item.record.key.problem == "texts"]
    rejected = [f"{file.path}: {file.reason}" for file in (*bad_probes, *bad_fits, *bad_texts)]
    return (
        filled(document, blocks(readings, of_texts)).encode(),
        picture(list(map(_panel, readings))),
    ), (*rejected, *left_out)


def readings_of(
    probes: Sequence[ProbeRecord], ranks: dict[str, tuple[str, int]]
) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
    """The probes of every proxy that compare with each other; and what was left out, in words.

    Args:
        ranks: family and number of parameters of writers; the others come last.
    """
    readings, left_out = [], []
    for proxy in sorted({record.key.model for record in probes if record.key.writer}):
        alike, excluded = probed_alike(probes, proxy)
        left_out += [f"{one.what}, read by {proxy}: {one.reason}" for one in excluded]
        n_texts = Counter(record.key.writer for record in alike)
        ordered = sorted(alike, key=lambda record: _place(record, ranks))
        readings.append(
            Reading(
                proxy=proxy,
                records=tuple(
                    (
                        f"{record.key.writer} ({record.key.text})"
                        if n_texts[record.key.writer] > 1
                        else str(record.key.writer),
                        record,
                    )
                    for record in ordered
                ),
            )
        )
    return tuple(readings), tuple(left_out)


def blocks(readings: Sequence[Reading], fits: Sequence[FitRecord] = ()) -> dict[str, str]:
    """Every part of the document by its name."""
    return {
        "verdict": _verdict(readings),
        "differences": _differences(readings),
        "windows": _windows(readings),
        "estimates": _estimates(fits),
    }


def only_by_emergence(readings: Sequence[Reading]) -> list[tuple[str, str]]:
    """Text and proxy where emergence tells text from reference, and nothing cheaper does."""
    return [
        (name, reading.proxy)
        for reading in readings
        for name, record in reading.records
        if record.headline.separates("emergence") and not any(map(record.headline.separates, CHEAPER))
    ]


def headline(readings: Sequence[Reading]) -> str:
    """What came of it, in a sentence."""
    records = [record for reading in readings for _, record in reading.records]
    if all(record.headline.is_saturated for record in records):
        return "**Saturated**: the windows are too few for emergence to say anything of these texts."
    n_apart = sum(record.headline.separates("emergence") for record in records)
    if not n_apart:
        found = {one: sum(record.headline.separates(one) for record in records) for one in CHEAPER}
        cheaper = ", ".join(f"{NAMES[one]} in {found[one]}" for one in CHEAPER if found[one])
        return (
            f"**Emergence does not tell these texts from the reference** in any of {len(records)} readings (a text "
            f"through a proxy); {f'{cheaper} of them' if cheaper else 'nothing cheaper does either'}."
        )
    alone = only_by_emergence(readings)
    opening = f"in {n_apart} of {len(records)} readings (a text through a proxy)"
    if not alone:
        return (
            f"**Emergence tells nothing that is not cheaper to have**: it tells text from reference {opening}, and in "
            "each of these something cheaper does too."
        )
    shown = ", ".join(f"{markdown_cell(name)} through {markdown_cell(proxy)}" for name, proxy in alone)
    return (
        f"**Emergence tells text from reference {opening}, in {len(alone)} of them alone**: nothing cheaper tells "
        f"{shown}. By chance one interval in twenty excludes no difference."
    )


def _verdict(readings: Sequence[Reading]) -> str:
    if not readings:
        return NOTHING
    return (
        "\n".join([headline(readings), "", *(f"- {line}" for reading in readings for line in _lines(reading))]) + "\n"
    )


def _lines(reading: Reading) -> Iterator[str]:
    """What came of the texts through one proxy: how many each kind of evidence tells apart, and of what sign."""
    headlines = [(name, record.headline) for name, record in reading.records]
    counts = {evidence: sum(comparison.separates(evidence) for _, comparison in headlines) for evidence in EVIDENCE}
    settled = [(name, one.difference_bits.value) for name, one in headlines if one.separates("emergence")]
    n_saturated = sum(one.is_saturated for _, one in headlines)
    first = reading.records[0][1]
    yield (
        f"Through **{markdown_cell(reading.proxy)}**, {first.headline.n_windows} windows a side, emergence tells "
        f"{counts['emergence']} of {len(headlines)} texts from {_whose(first)}"
        + (f" ({n_saturated} saturated)" if n_saturated else "")
        + "; "
        + ", ".join(f"{NAMES[evidence]} tells {counts[evidence]}" for evidence in CHEAPER)
        + "."
    )
    widths = sorted((one.difference_bits.high - one.difference_bits.low) / 2 for _, one in headlines)
    shown = " to ".join(dict.fromkeys(f"{width:.2f}" for width in (widths[0], widths[-1])))
    yield f"Half an interval of that difference is {shown} bits: a smaller one would not show."
    for side, sign in (("more", 1), ("less", -1)):
        names = [markdown_cell(name) for name, value in settled if value * sign > 0]
        if names:
            yield f"Settled, with {side} emergence than {_whose(first)}: {', '.join(names)}."
    yield _of_controls(reading)


def _of_controls(reading: Reading) -> str:
    controls = [record.control for _, record in reading.records if record.control is not None]
    if not controls:
        return "No control: the reference does not make two samples."
    apart = [NAMES[evidence] for evidence in EVIDENCE if any(control.separates(evidence) for control in controls)]
    sizes = sorted({control.n_windows for control in controls})
    shown = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    found = f"told apart by {', '.join(apart)}" if apart else "not told apart by anything"
    return f"Control: the reference against other windows of itself, {shown} a side, is {found}."


def _differences(readings: Sequence[Reading]) -> str:
    rows = [
        (
            markdown_cell(name),
            markdown_cell(reading.proxy),
            _shown(one.difference_bits, 3, is_bold=one.separates("emergence")) + (" †" if one.is_saturated else ""),
            _shown(one.counted_bits, 3, is_bold=one.separates("counted")),
            _shown(one.bag_of_tokens, 2, sign="", is_bold=one.separates("bag_of_tokens")),
            _shown(one.perplexity.difference_bits, 2, is_bold=one.separates("perplexity")),
        )
        for reading in readings
        for name, record in reading.records
        for one in (record.headline,)
    ]
    if not rows:
        return NOTHING
    first = readings[0].records[0][1]
    header = (
        "writer", "proxy", "emergence, difference (bits)", "counted, difference (bits)", "bag of tokens, AUC",
        "perplexity, difference (bits a token)",
    )  # fmt: skip
    sizes = _listed(record.headline.n_windows for reading in readings for _, record in reading.records)
    is_saturated = any(record.headline.is_saturated for reading in readings for _, record in reading.records)
    return (
        table(header, rows)
        + f"\nText minus {_whose(first)}, {sizes} windows a side, with 95 % intervals; **bold** where the interval "
        + "excludes no difference."
        + (" † saturated: emergence says nothing there." if is_saturated else "")
        + f"\n\n![Differences of emergence beside the cheaper evidence](../results/{PICTURE.as_posix()})\n"
    )


def _windows(readings: Sequence[Reading]) -> str:
    rows = [
        (
            markdown_cell(name),
            markdown_cell(reading.proxy),
            *(_needed(record, evidence) for evidence in EVIDENCE),
        )
        for reading in readings
        for name, record in reading.records
    ]
    if not rows:
        return NOTHING
    sizes = _listed(size for reading in readings for _, record in reading.records for size in record.key.sizes)
    return (
        table(("writer", "proxy", *(NAMES[evidence] for evidence in EVIDENCE)), rows)
        + f"\nThe smallest number of windows a side from which on the texts are always told apart, of {sizes}; - where "
        "even the most do not tell them.\n"
    )


def _listed(sizes: Iterable[int]) -> str:
    """Numbers of windows, each once."""
    return ", ".join(map(str, sorted(set(sizes))))


def _needed(record: ProbeRecord, evidence: Evidence) -> str:
    needed = record.n_needed(evidence)
    return "-" if needed is None else str(needed)


def _estimates(fits: Sequence[FitRecord]) -> str:
    if not fits:
        return "Not fitted yet; `bench fit --problem texts` does.\n"
    lines = []
    for record in sorted(fits, key=lambda record: (record.key.target, record.key.digest())):
        lines += [
            f"Read by **{markdown_cell(record.key.target)}**: {record.n_models} models of {len(record.families)} "
            "families, each family predicted from the others.\n",
            table(
                ("from", "held-out error (bits)"),
                [
                    (
                        markdown_cell(one.name) + ("" if one.role == "baseline" else " (on trial)"),
                        _bits(one.mean_absolute_error),
                    )
                    for one in record.errors
                ],
            ),
            *(f"- {markdown_cell(comparison.verdict)}" for comparison in record.comparisons),
            "",
        ]
    return "\n".join(lines)


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _panel(reading: Reading) -> Panel:
    return Panel(
        proxy=reading.proxy,
        points=tuple(
            Point(
                name=name,
                emergence=record.headline.difference_bits,
                is_saturated=record.headline.is_saturated,
                counted=record.headline.counted_bits,
                bag_of_tokens=record.headline.bag_of_tokens,
                perplexity=record.headline.perplexity.auc,
            )
            for name, record in reading.records
        ),
    )


def _whose(record: ProbeRecord) -> str:
    return markdown_cell(record.key.reference_writer or record.key.reference)


def _shown(interval: Interval, decimals: int, *, sign: str = "+", is_bold: bool = False) -> str:
    value, low, high = (f"{number:{sign}.{decimals}f}" for number in (interval.value, interval.low, interval.high))
    return f"{f'**{value}**' if is_bold else value} ({low} to {high})"


def _place(record: ProbeRecord, ranks: dict[str, tuple[str, int]]) -> tuple[bool, str, float, str, str]:
    """By family and size where they are known."""
    writer = record.key.writer or ""
    family, size = ranks.get(writer, ("", math.inf))
    return writer not in ranks, family, size, writer, record.key.digest()


def _ranks(store: Store) -> tuple[dict[str, tuple[str, int]], list[RejectedFile]]:
    """Family and number of parameters of the models whose collected texts are there."""
    found: dict[str, tuple[str, int]] = {}
    rejected = []
    for path in sorted(store.root.glob("texts/*.json")):
        try:
            record = read_row(path, TextRecord)
        except (RecordError, FileNotFoundError) as error:
            rejected.append(RejectedFile(path=path.relative_to(store.root).as_posix(), reason=str(error)))
            continue
        if record.model is not None:
            found[record.key.model] = (record.model.family, record.model.n_parameters)
    return found, rejected


def main(arguments: Sequence[str]) -> int:
    """Fill the document, say which files were written, and return the exit status."""
    try:
        if len(arguments) > len(DEFAULTS):
            raise UsageError(f"expected at most a results folder and a document, got {len(arguments)} arguments")
        results, document = (*map(Path, arguments), *DEFAULTS[len(arguments) :])
        written = write_text_findings(Store(results), document)
    except BenchError as error:
        print(printable(f"proxies.text_findings: {error}"), file=sys.stderr)
        return error.exit_status
    for line in written.left_out:
        print(printable(f"left out: {line}"), file=sys.stderr)
    for path in written.paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
