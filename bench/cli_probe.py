"""The command `bench probe`: parses, compares, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench import cli_completion
from bench.cli_options import AsJson, numbers, print_json, print_tables


def probe(
    text: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="The text in question: a plain-text file, as for `bench run --text`.",
            autocompletion=cli_completion.texts,
        ),
    ],
    reference: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="The text to hold it against; text-sample is the shipped one.",
            autocompletion=cli_completion.texts,
        ),
    ] = "text-sample",
    proxy: Annotated[
        str,
        typer.Option(
            metavar="MODEL,...",
            help="Small models to read both texts, separated by commas.",
            autocompletion=cli_completion.model_list,
        ),
    ] = "gpt2-ladder-m,gpt2-ladder-s",
    window: Annotated[int, typer.Option(help="Tokens of a window, from the start of each sentence.")] = 8,
    windows: Annotated[
        int | None, typer.Option(help="Windows from each text. Default: what both have, at most 1600.")
    ] = None,
    sizes: Annotated[
        str,
        typer.Option(
            metavar="N,...", help="Smaller numbers of windows to compare at too. Default: 100 and its doubles."
        ),
    ] = "",
    groups: Annotated[int, typer.Option(help="Groups that the windows are dealt into; their spread is the error.")] = 8,
    writer: Annotated[str | None, typer.Option(help="Who wrote the text, for the record.")] = None,
    reference_writer: Annotated[str, typer.Option(help="Who wrote the reference, for the record.")] = "people",
    estimator: Annotated[
        str,
        typer.Option(
            help="noisy_channel, or crossfit_nce: slow, needs thousands of windows.",
            autocompletion=cli_completion.estimators,
        ),
    ] = "noisy_channel",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A setting of the estimator; may be repeated. Tuples: numbers with commas."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the windows, the groups and the noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Read two texts through small models: does their emergence differ, and is that more than counting tokens tells?"""
    from bench.probe import ProbeRequest, text_named
    from bench.probe import probe as compare
    from bench.request import split_setting
    from bench.terminal import Bars, remark
    from bench.terminal_probe import probe_as_data, probe_tables

    request = ProbeRequest(
        text=text_named("--text", text),
        reference=text_named("--reference", reference),
        proxies=tuple(name.strip() for name in proxy.split(",") if name.strip()),
        out=out,
        window=window,
        n_windows=windows,
        sizes=numbers("--sizes", sizes),
        n_groups=groups,
        estimator=estimator,
        settings=tuple(map(split_setting, setting or ())),
        writer=writer,
        reference_writer=reference_writer or None,
        seed=seed,
        device=device,
    )
    with Bars() as bars:
        outcomes = compare(request, bars)
    if as_json:
        print_json(
            [{"path": str(one.path), "was_there": one.was_there} | probe_as_data(one.record) for one in outcomes]
        )
    else:
        print_tables(probe_tables([outcome.record for outcome in outcomes]))
    for outcome in outcomes:
        remark(f"{outcome.path}: {'already compared, nothing done' if outcome.was_there else 'written'}")
