"""The commands `bench features`, `fit`, `estimate` and `ledger`: parse, call one function, print."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench import cli_completion
from bench.cli_options import AsJson, Results, print_json, print_tables

if TYPE_CHECKING:
    from proxies.estimating import Estimated
    from proxies.fitting import FitOutcome, FitRequest, RefusedFit

Features = Annotated[
    str | None,
    typer.Option(help="A set (headline, emergence, controls, all) or columns with commas. Default: headline."),
]
Mode = Annotated[Literal["completion", "chat"], typer.Option(help="How the models were asked.")]
Estimator = Annotated[
    str, typer.Option(help="Estimator whose records are used.", autocompletion=cli_completion.estimators)
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws permutations and bootstraps.")]

ledger_app = typer.Typer(
    help="Predictions, written before a model is scored, and what came of them.", invoke_without_command=True
)


def features(
    results: Results = Path("results"),
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows as Parquet.")] = None,
    estimator: Estimator = "noisy_channel",
    columns: Annotated[bool, typer.Option("--columns", help="Say what each column is, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """The cells (model, task, shots) that regressions are fitted on: emergence and accuracy side by side."""
    from bench.store import write_whole
    from bench.terminal import new_table, remark
    from proxies.features import COLUMNS
    from proxies.fitting import FitRequest
    from proxies.frames import as_csv, as_parquet

    if columns:
        if as_json:
            print_json([asdict(column) for column in COLUMNS])
            return
        table = new_table("Columns")
        for heading in ("column", "unit", "source", "what"):
            table.add_column(heading, overflow="fold")
        for column in COLUMNS:
            table.add_row(column.name, column.unit, column.source, column.what)
        print_tables([table])
        return
    found = FitRequest(results=results, estimator=estimator).frame
    for path, content in ((csv, as_csv), (parquet, as_parquet)):
        if path is not None:
            write_whole(path, content(found.frame))
            remark(f"{path}: {len(found.frame):,} rows written")
    frame = found.frame
    both = frame[frame["emergence"].notna() & frame["accuracy"].notna()]
    counts = {
        "n_rows": len(frame), "n_with_both": len(both), "n_models": frame["model"].nunique(),
        "n_models_with_both": both["model"].nunique(), "n_families_with_both": both["family"].nunique(),
        "n_tasks_with_both": both["task"].nunique(),
    }  # fmt: skip
    if as_json:
        print_json(counts | {"excluded": [asdict(one) for one in found.excluded]})
        return
    print(
        f"{counts['n_rows']:,} cells of {counts['n_models']} models; {counts['n_with_both']:,} have emergence and "
        f"accuracy: {counts['n_models_with_both']} models of {counts['n_families_with_both']} families on "
        f"{counts['n_tasks_with_both']} tasks"
    )
    for one in found.excluded:
        remark(f"left out: {one.what}: {one.reason}")
    if frame.empty:
        remark(f"nothing in {results} to fit on; measure with `bench run MODEL` and `bench query MODEL`")


def fit(
    target: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Predict this model on tasks that the fit has not seen.",
            autocompletion=cli_completion.models,
        ),
    ] = None,
    problem: Annotated[
        Literal["cells", "models", "emergence", "texts"] | None,
        typer.Option(
            help="cells: tasks not seen. models: families not seen. emergence: of families not seen, from performance. "
            "texts: the same, from text that was read by `bench probe`. Default: all."
        ),
    ] = None,
    features: Features = None,
    mode: Mode = "completion",
    estimator: Estimator = "noisy_channel",
    proxies: Annotated[
        str | None,
        typer.Option(
            metavar="MODELS",
            help="Models whose emergence is used for a target, or that have read the texts; with commas. Default: all.",
            autocompletion=cli_completion.model_list,
        ),
    ] = None,
    published: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Published scores as targets, instead of measured ones.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Columns of the published scores, with commas. Default: all of them.")
    ] = None,
    cells: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cells written by `bench features`, instead of the records.")
    ] = None,
    results: Results = Path("results"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Ask whether emergence predicts performance better than what is cheaper to have, on tasks and families not seen.

    Prints the held-out error of every predictor and baseline and a verdict in words, and writes a record of each fit.
    """
    from bench.errors import BenchError
    from bench.terminal import Bars, remark
    from bench.terminal_fit import excluded_lines, fit_tables
    from proxies.fit_report import write_fit_report
    from proxies.fitting import FitOutcome, FitRequest, left_out, run

    request = FitRequest(
        results=results,
        problems=None if problem is None else (problem,),
        targets=() if target is None else (target,),
        features=features,
        estimator=estimator,
        mode=mode,
        proxies=_names(proxies),
        published=published,
        benchmarks=_names(benchmark),
        cells=cells,
        seed=seed,
    )
    done: list[FitOutcome] = []
    refused: list[RefusedFit] = []
    with Bars("fits") as bars:
        for outcome in run(request, bars):
            if isinstance(outcome, FitOutcome):
                done.append(outcome)
            else:
                refused.append(outcome)
    if as_json:
        print_json(
            {
                "fits": [
                    {"path": str(one.path), "was_there": one.was_there, "record": one.record.model_dump(mode="json")}
                    for one in done
                ],
                "refused": [asdict(one) for one in refused],
            }
        )
    for one in done:
        if not as_json:
            print_tables(fit_tables(one.record))
            for line in excluded_lines(one.record):
                remark(line)
        remark(f"{one.path}: {'fitted before, nothing done' if one.was_there else 'written'}")
    if published is None:
        for left in left_out(request):
            remark(f"left out: {left.what}: {left.reason}")
    for no in refused:
        remark(f"refused: {no.problem}, {no.target}: {no.reason}")
    if done:
        from bench.store import Store

        for path in write_fit_report(Store(results)):
            remark(f"{path}: written")
    elif refused:
        raise BenchError(f"no fit was made: {refused[0].reason}")
    else:
        raise BenchError("no model was asked on enough tasks; ask one with `bench query MODEL --tasks all`")


def estimate(
    model: Annotated[
        str,
        typer.Argument(
            help="A model that was asked with `bench query`, as it was named there; or that wrote the text.",
            autocompletion=cli_completion.models,
        ),
    ],
    from_performance: Annotated[
        bool, typer.Option("--from-performance", help="Estimate from its answers. This is the default.")
    ] = False,
    from_text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Estimate from text that the model has written, not from answers."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="With --from-text: what all texts are held against. Default: texts/people.txt in the results folder.",
        ),
    ] = None,
    proxy: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="With --from-text: the small model that reads it.",
            autocompletion=cli_completion.models,
        ),
    ] = "gpt2-ladder-m",
    family: Annotated[
        str | None, typer.Option(help="Family held out of the fit. Default: that of the catalog's model of this name.")
    ] = None,
    mode: Mode = "completion",
    results: Results = Path("results"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Estimate the emergence of a model that gives no activations, with the error of such estimates beside it."""
    from bench.errors import UsageError
    from bench.terminal import Bars, remark
    from bench.terminal_estimate import estimate_tables
    from proxies.estimating import estimate_from_performance

    if from_text is not None and from_performance:
        raise UsageError("--from-performance and --from-text are two estimates; ask for one at a time")
    request = _request(results, mode, seed)
    if from_text is not None:
        reference = str(results / "texts" / "people.txt") if reference is None else reference
        found = _estimated_from_text(request, model, str(from_text), reference, proxy=proxy, family=family)
    elif reference is not None:
        raise UsageError("--reference is what a text is held against; name the text with --from-text FILE")
    else:
        with Bars("fits") as bars:
            found = estimate_from_performance(request, model, family=family, progress=bars)
    if as_json:
        print_json(
            {"path": str(found.path), "was_there": found.was_there, "record": found.record.model_dump(mode="json")}
        )
    else:
        print_tables(estimate_tables(found.record))
    remark(f"{found.path}: {'estimated before, nothing done' if found.was_there else 'written'}")


def _estimated_from_text(
    request: FitRequest, model: str, text: str, reference: str, *, proxy: str, family: str | None
) -> Estimated:
    """Read a text as those of the other writers were read, and estimate from what the proxy makes of it."""
    from bench.catalog import resolve
    from bench.errors import UsageError
    from bench.probe import ProbeRequest, probe, text_named, text_sha256
    from bench.terminal import Bars, remark
    from proxies.estimating import estimate_from_text, fit_of_texts

    wanted, held_against = text_named("--from-text", text), text_named("--reference", reference)
    with Bars("fits") as bars:
        fit = fit_of_texts(request, proxy=resolve(proxy).name, progress=bars)
    alike = fit.reading
    if text_sha256(held_against) != alike.reference_sha256:
        raise UsageError(
            f"--reference: the texts that {proxy} has read were held against another text than {reference}, which "
            f"they call {alike.reference}; name that one"
        )
    settings = {
        name: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for name, value in alike.settings.items()
    }
    with Bars() as bars:
        (outcome,) = probe(
            ProbeRequest(
                text=wanted,
                reference=held_against,
                proxies=(proxy,),
                out=request.results,
                window=alike.window,
                sizes=alike.sizes,
                n_groups=alike.n_groups,
                estimator=alike.estimator,
                settings=tuple(settings.items()),
                writer=model,
                reference_writer=alike.reference_writer,
                seed=alike.seed,
            ),
            bars,
        )
    remark(f"{outcome.path}: {'read before' if outcome.was_there else 'written'}")
    return estimate_from_text(request, fit, model, outcome.record, family=family)


@ledger_app.callback()
def ledger(context: typer.Context, results: Results = Path("results"), as_json: AsJson = False) -> None:
    """Show all predictions of the ledger, scored as far as the records allow."""
    if context.invoked_subcommand is not None:
        return
    from bench.store import Store
    from bench.terminal_estimate import ledger_tables
    from proxies.ledger import as_data, read_ledger, score

    stored, _ = Store(results).performances()
    scored = score(read_ledger(results), stored)
    if as_json:
        print_json(as_data(scored))
    elif not scored:
        print("the ledger is empty; write predictions into it with `bench ledger predict MODEL`")
    else:
        print_tables(ledger_tables(scored))


@ledger_app.command("predict")
def ledger_predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A model that was asked on some tasks, and not on others.", autocompletion=cli_completion.models
        ),
    ],
    features: Features = None,
    mode: Mode = "completion",
    results: Results = Path("results"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Predict a model's accuracy on everything that it was not asked yet, and write that down before it is.

    The predictor is the one with the least held-out error on what it was asked, a baseline if that is one.
    """
    from dataclasses import replace

    from bench.terminal import Bars, remark
    from bench.terminal_estimate import ledger_tables
    from proxies.ledger import as_data, score
    from proxies.predicting import write_predictions

    with Bars("fits") as bars:
        entry = write_predictions(replace(_request(results, mode, seed), features=features), model, bars)
    scored = score([entry], [])
    if as_json:
        print_json(as_data(scored))
    else:
        print_tables(ledger_tables(scored))
    remark(f'{results / "ledger.jsonl"}: {len(entry.predictions)} predictions by "{entry.predictor}" added')


def _request(results: Path, mode: str, seed: int) -> FitRequest:
    from proxies.fitting import FitRequest

    return FitRequest(results=results, mode=mode, seed=seed)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
