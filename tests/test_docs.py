"""The documentation: the site builds without a warning or a network, links lead somewhere, examples are true."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from bench.calibration.suite import problems
from bench.cli import main
from bench.cli_reference import reference
from bench.emergence import Estimates, emergence
from bench.estimators import ESTIMATORS, pair_up
from docs import hooks
from tests.bench.estimators import test_protocol as suite
from tests.doc_pages import PAGES, ROOT, anchors, blocks, read

LINKING = (*PAGES, "CHANGELOG.md", "proxies/ladder/README.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return folder


def test_the_site_holds_every_page_and_begins_somewhere(site: Path) -> None:
    for page in PAGES[1:]:
        assert (site / page).with_suffix(".html").is_file(), page
    assert hooks.START in (site / "index.html").read_text(encoding="utf-8")
    assert (site / hooks.START).is_file()


def test_the_site_asks_no_other_host_for_anything(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=\"?([^\" >]+)", text)
        loaded += re.findall(r"<link\b[^>]*?\bhref=\"?([^\" >]+)", text)
        assert (loaded or page == site / "index.html") and not [one for one in loaded if urlsplit(one).netloc], page
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles)


def test_the_site_shows_lists_as_lists_and_records_as_paths(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<p>[^<]*\n(?:- |\d+\. |\|)", text), page
        assert not re.search(r'href="[^":]*results/[^"]*\.jsonl?"', text), page
    assert '<span title="results/emergence/' in (site / "leaderboard.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", LINKING)
def test_links_and_anchors_lead_somewhere(page: str) -> None:
    for link in hooks.links(read(page)):
        target = urlsplit(link["target"])
        if target.scheme:
            continue
        path = hooks.linked_file(page, link["target"]) or page
        assert (ROOT / path).exists(), f"{page}: {link[0]}"
        if target.fragment:
            assert target.fragment in anchors(path), f"{page}: {link[0]}"


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert read("docs/cli.md") == reference(), "run `python -m bench.cli_reference`"


LISTS = tuple(itertools.permutations(range(3), 2))
NAMES = torch.eye(3)
COMMAS = torch.ones(3, 1)
TOLD_APART = torch.stack([torch.cat([NAMES[first], NAMES[second]]) for first, second in LISTS])
ORDER_FORGOTTEN = torch.stack([NAMES[first] + NAMES[second] for first, second in LISTS])


def bits(inputs: torch.Tensor, outputs: torch.Tensor, noise: float | None) -> tuple[float, float]:
    """Mutual information and its standard error: counted, or through noise."""
    settings = {} if noise is None else {"scales": (noise,), "headline_scale": noise, "n_draws": 100_000}
    estimator = ESTIMATORS["exact" if noise is None else "noisy_channel"](**settings)
    found = estimator.estimate(pair_up(inputs, outputs), np.random.default_rng(0))
    return found.value_nats / math.log(2), found.standard_error_nats / math.log(2)


def worked(noise: float | None) -> list[tuple[float, float]]:
    """Macro, micro of a name, emergence, emergence without the order; each with its standard error."""
    macro, forgotten = bits(TOLD_APART, TOLD_APART, noise), bits(TOLD_APART, ORDER_FORGOTTEN, noise)
    micro = [bits(NAMES, NAMES, noise), bits(COMMAS, COMMAS, None)]

    def of(last: tuple[float, float]) -> tuple[float, float]:
        (at_end, single), (end_error, single_errors) = ((last[i], [one[i] for one in micro]) for i in (0, 1))
        found = emergence(
            Estimates(values=np.full((1, 4), at_end), errors=np.full((1, 4), end_error)),
            Estimates(values=np.array([single]), errors=np.array([single_errors])),
            np.array([0, 1, 0, 1]),  # a name, a comma, a name, a comma
        )
        return float(found.values[0, -1]), float(found.errors[0, -1])

    return [macro, micro[0], of(macro), of(forgotten)]


def test_the_example_by_hand_is_what_the_library_computes() -> None:
    page = read("docs/concepts.md")
    macro, micro, whole, forgotten = (value for value, _ in worked(None))
    for value in (macro, micro, micro / 2, whole, forgotten):
        assert f"= {value:.3f} bits" in page
    block_0 = worked(None)[2][0] - macro  # its macro term is 0
    assert f"{block_0:.3f} bits" in page and bits(torch.ones(6, 1), TOLD_APART, None)[0] == 0


@pytest.mark.parametrize("noise", [0.16, 0.32, 0.64])
def test_the_example_in_noise_is_what_the_library_computes(noise: float) -> None:
    (row,) = re.findall(rf"^    {noise:.2f} +([\d. ]+)$", read("docs/concepts.md"), re.MULTILINE)
    stated = [float(number) for number in row.split()]
    for number, (value, error) in zip(stated, worked(noise), strict=True):
        assert abs(number - value) <= 0.005 + 4 * error + 0.001  # rounding, draws, and rare draws near saturation


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The estimator of the page, as a file and a line."""
    file = tmp_path / "sign_patterns.py"
    code, line = blocks("docs/add-an-estimator.md", "python")
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("sign_patterns", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sign_patterns", module)
    spec.loader.exec_module(module)
    name, kind = re.fullmatch(r'\s*"(\w+)": (\w+),\s*', line).groups()  # type: ignore[union-attr]
    monkeypatch.setitem(ESTIMATORS, name, getattr(module, kind))
    return module


def test_the_example_of_an_estimator_passes_the_suite(example: ModuleType) -> None:
    checks = [
        check
        for kind in (suite.TestEveryEstimator, suite.TestWholePopulations)
        for name, check in inspect.getmembers(kind(), inspect.ismethod)
        if name.startswith("test_")
    ]
    assert len(checks) == 10
    for check in checks:
        check("sign_patterns")


def test_the_example_of_an_estimator_is_a_bound_on_codes_of_known_information(example: ModuleType) -> None:
    on_codes = problems(("exact",), is_quick=True, real=None, real_id=None)
    assert on_codes
    for problem in on_codes:
        sampler = problem.build()
        pairs = sampler.draw(problem.n_samples, np.random.default_rng(0))
        found = ESTIMATORS["sign_patterns"](n_planes=32).estimate(pairs, np.random.default_rng(1))
        assert sampler.truth_nats * 0.9 <= found.value_nats <= sampler.truth_nats + 1e-6


def test_the_example_of_an_estimator_is_chosen_by_name(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(
            ["run", "gpt2-ladder-xs", "--tasks", "country", "--estimator", "sign_patterns"]
            + ["--setting", "n_planes=32", "--out", str(tmp_path / "try"), "--n-shots", "2"]
        )
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    assert "sign_patterns (signs)" in told.out


def test_what_the_pages_say_of_the_committed_results_is_so() -> None:
    """The sentences that give no number and would be wrong all the same."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in read("leaderboard.md").splitlines()]
    (header,) = [row for row in rows if row[:1] == ["rank"] and "over twin" in row][:1]
    ranked = [row for row in rows if len(row) == len(header) and row[0].isdigit()]
    differences = [row[header.index("over twin")] for row in ranked if row[header.index("over twin")]]
    assert len(differences) > 5 and all(difference.startswith("-") for difference in differences)  # faq, concepts

    verdict = re.search(
        r"^- \*\*Emergence of families not seen, from performance.*", read("results/fits/report.md"), re.M
    )
    assert verdict is not None and "does not beat its baseline &#40;parameters&#41;" in verdict[0]  # api-models
    asked_in_chat = {path.parent for path in (ROOT / "results" / "performance").glob("*/*.chat.*.json")}
    assert len(asked_in_chat) < 8  # api-models
    records = (ROOT / "results" / "emergence").glob("*/*.json")
    assert max(path.stat().st_size for path in records) < 700_000  # faq: well below a megabyte
