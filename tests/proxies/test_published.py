"""Reading published benchmark scores, and setting large models beside the small sibling of their family."""

from __future__ import annotations

import csv
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from proxies.published import PublishedRow, PublishedScores, read_scores, sibling_cells
from proxies.published_table import N_BYTES_LIMIT

SAMPLE = Path(__file__).parents[2] / "results" / "published" / "base_llm_benchmark_eval.csv"
HEADER = "Model,Family,parameters_b,MMLU,GSM8K\n"


@pytest.fixture(scope="module")
def sample() -> PublishedScores:
    return read_scores(SAMPLE)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "scores.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes) -> PublishedScores:
    return read_scores(written(folder, text))


def row_of(scores: PublishedScores, model: str) -> PublishedRow:
    (found,) = [row for row in scores.rows if row.model == model]
    return found


def test_the_sample_holds_all_its_models_with_the_values_of_the_file(sample: PublishedScores) -> None:
    assert (len(sample.rows), len({row.family for row in sample.rows}), sample.excluded) == (148, 47, ())
    assert sample.benchmarks == tuple("MMLU ARC-C HellaSwag Winograd TruthfulQA GSM8K XWinograd HumanEval".split())
    assert sample.tag == "published"
    neo_j = row_of(sample, "EleutherAI/gpt-j-6b")  # 6.05 billion parameters, 0.402 trillion tokens, 14.5926e21 FLOPs
    assert (neo_j.family, neo_j.n_parameters, neo_j.n_tokens) == ("GPT-Neo/J", 6_050_000_000, 402_000_000_000)
    assert neo_j.flops == pytest.approx(1.45926e22)
    assert neo_j.scores["HellaSwag"] == 0.675363473411671
    largest = row_of(sample, "meta-llama/Meta-Llama-3.1-405B-FP8")
    assert (largest.n_parameters, largest.n_tokens) == (405_000_000_000, 15_000_000_000_000)
    assert largest.scores["MMLU"] == 0.8487448466550416
    assert row_of(sample, "google/gemma-2-27b").scores["GSM8K"] == 0.740
    assert row_of(sample, "EleutherAI/pythia-70m-deduped").scores["GSM8K"] == 0.0


def test_what_the_sample_lacks_is_absent_and_not_zero(sample: PublishedScores) -> None:
    assert "of 148 models a score is missing: ARC-C for 3, XWinograd for 16, HumanEval for 21" in sample.remarks
    assert "ARC-C" not in row_of(sample, "meta-llama/Meta-Llama-3-8B").scores
    small = row_of(sample, "openai-community/gpt2")
    assert (small.n_parameters, small.n_tokens, small.flops) == (124_000_000, None, None)
    assert sum(row.flops is None for row in sample.rows) == 26  # 25 in the file, and the one that cannot be right


def test_the_row_of_the_sample_with_a_thousand_times_its_tokens_is_found_and_no_other(sample: PublishedScores) -> None:
    found = [remark for remark in sample.remarks if "left out" in remark]
    assert found == [
        "line 141: cerebras/btlm-3b-8k-base: 6.27e+14 training tokens are more than any known training set has; "
        "tokens and FLOPs left out"
    ]
    trap = row_of(sample, "cerebras/btlm-3b-8k-base")
    assert (trap.n_parameters, trap.n_tokens, trap.flops) == (3_000_000_000, None, None)
    assert len(trap.scores) == 8


def test_compute_of_the_sample_confirms_nothing_as_it_is_computed_from_the_tokens(sample: PublishedScores) -> None:
    """Its wrong row has FLOPs to match: 6 * 3.0 billion * 627 trillion = 11286e21, so their ratio finds no row."""
    (remark,) = [remark for remark in sample.remarks if remark.startswith("FLOPs")]
    assert "in 123 of 123 models that have all three" in remark


def test_sizes_that_contradict_the_name_are_remarked_on(sample: PublishedScores) -> None:
    found = [remark for remark in sample.remarks if "the name says" in remark]
    assert found == [
        "line 26: Qwen/Qwen2-57B-A14B: 2.4e+10 parameters, though the name says 5.7e+10; kept as in the column",
        "line 102: openlm-research/open_llama_7b_v2: 1.3e+10 parameters, though the name says 7e+09; "
        "kept as in the column",
    ]


@pytest.mark.parametrize(
    ("flops", "kept"), [(6e21 * 29, True), (6e21 * 31, False), (6e21 / 29, True), (6e21 / 31, False)]
)
def test_compute_far_from_parameters_and_tokens_is_left_out_with_the_tokens(
    tmp_path: Path, flops: float, kept: bool
) -> None:
    scores = read(tmp_path, f"Model,Family,n_parameters,tokens_t,FLOPs,MMLU\na,A,1000000000,1,{flops},0.3\n")
    (row,) = scores.rows
    assert (row.n_tokens, row.flops) == ((10**12, flops) if kept else (None, None))
    assert any(re.search(r"line 2: a: FLOPs are a factor 31 off", remark) for remark in scores.remarks) is not kept


@pytest.mark.parametrize(
    ("size", "value"),
    [
        ("Model Size (B)", "1.5"),
        ("parameters_b", "1.5"),
        ("#Params (B)", "1.5"),
        ("params_m", "1500"),
        ("n_parameters", "1500000000"),
        ("Parameters", "1.5e9"),
    ],
)
def test_spellings_and_units_of_sizes(tmp_path: Path, size: str, value: str) -> None:
    text = f"model_name,Model Family,{size},tokens (B),Licence,ARC-C\na,A,{value},300,MIT,0.25\n"
    scores = read(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert scores.rows[0] == PublishedRow(
        model="a", family="A", n_parameters=1_500_000_000, n_tokens=300 * 10**9, flops=None, scores={"ARC-C": 0.25}
    )
    assert scores.remarks == ("columns ignored, being no scores: Licence", "columns taken as fractions: ARC-C")


def test_percent_is_decided_for_each_column_and_said(tmp_path: Path) -> None:
    text = "model,family,params_b,MMLU,GSM8K (%),Year,HumanEval\na,A,7,45,0.5,2023,0.5\nb,A,1,25.5,0,2024,1\n"
    scores = read(tmp_path, text)
    assert row_of(scores, "a").scores == {"MMLU": 0.45, "GSM8K": 0.005, "HumanEval": 0.5}
    assert row_of(scores, "b").scores == {"MMLU": 0.255, "GSM8K": 0.0, "HumanEval": 1.0}
    assert scores.remarks == (
        "columns taken as percent: MMLU, GSM8K",
        "columns ignored, being no scores: Year",
        "columns taken as fractions: HumanEval",
    )


def test_lines_that_lack_something_are_excluded_in_words_and_never_filled(tmp_path: Path) -> None:
    text = HEADER + "a,A,7,0.4,0.1\nb,A,,0.5,0.2\n\nc,,1,0.3,\n,A,1,0.3,0\nd,D,2,,\n,,,,\n"
    scores = read(tmp_path, text)
    assert [row.model for row in scores.rows] == ["a"]
    assert [(item.line, item.model, item.reason) for item in scores.excluded] == [
        (3, "b", "no number of parameters, and none is guessed"),
        (5, "c", "no family"),
        (6, "", "no name of the model"),
        (7, "d", "no score on any benchmark"),
        (
            8,
            "",
            "no name of the model; no family; no number of parameters, and none is guessed; no score on any benchmark",
        ),
    ]


def test_a_model_twice_with_the_same_numbers_is_kept_once(tmp_path: Path) -> None:
    scores = read(tmp_path, HEADER + "a,A,7,0.4,0.10\nb,B,7,0.4,0.1\na,A,7.0,0.40,0.1\n")
    assert [row.model for row in scores.rows] == ["a", "b"]
    assert scores.remarks[-1] == "line 4: 'a' repeats line 2; kept once"


NAN_REMEDY = "expected a number such as 0.25; leave the cell empty where there is none"
RANGE = "expected a score from 0 to 1 or from 0 to 100; correct it, or remove a column of no scores"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "a,A,7,0.4,0.1\nb,A,7,nan,0.1\n", f"line 3, column 'MMLU': got 'nan', {NAN_REMEDY}"),
        (HEADER + "a,A,7,0.4,0.1\nb,A,7,inf,0.1\n", f"line 3, column 'MMLU': got 'inf', {NAN_REMEDY}"),
        (HEADER + 'a,A,7,0.4,0.1\nb,A,7,"0,4",0.1\n', f"line 3, column 'MMLU': got '0,4', {NAN_REMEDY}"),
        (HEADER + "a,A,7,0.4,0.1\nb,A,7,0.5,1_0\n", f"line 3, column 'GSM8K': got '1_0', {NAN_REMEDY}"),
        (HEADER + "a,A,seven,0.4,0.1\n", f"line 2, column 'parameters_b': got 'seven', {NAN_REMEDY}"),
        (HEADER + "a,A,7,0.4,-0.1\n", f"line 2, column 'GSM8K': got '-0.1', {RANGE}"),
        (HEADER + "a,A,7,0.4,100.5\n", f"line 2, column 'GSM8K': got '100.5', {RANGE}"),
        (HEADER + "a,A,7,0.4,1e999\n", f"line 2, column 'GSM8K': got 'inf', {RANGE}"),
        ("model,family,params_b,Quiz\na,A,7,50\nb,A,1,-3\n", f"line 3, column 'Quiz': got '-3', {RANGE}"),
        (
            HEADER + "a,A,7,0.4,0.1\nb,A,7,45,0.1\n",
            "line 2, column 'MMLU': got '0.4', expected percent above 1, as line 3 has 45; "
            "name the column 'MMLU (%)' if all of it is percent; else correct it, or remove a column of no scores",
        ),
        (
            HEADER + "a,A,7000000000,0.4,0.1\n",
            "line 2, column 'parameters_b': got '7000000000', expected 1e-05 to 100000 in the unit of the column; "
            "correct it or the unit in the column's name, or leave the cell empty",
        ),
        (HEADER + "a,A,0,0.4,0.1\n", "line 2, column 'parameters_b': got '0', expected 1e-05 to 100000"),
        (HEADER + "a,A,-7,0.4,0.1\n", "line 2, column 'parameters_b': got '-7', expected 1e-05 to 100000"),
        (
            "model,family,n_parameters,tokens_t,MMLU\na,A,7e9,1e999,0.4\n",
            "line 2, column 'tokens_t': got '1e999', expected 1e-12 to 1e+28 in the unit of the column",
        ),
        (
            HEADER + "a,A,7,0.4,0.1\na,A,7,0.5,0.1\n",
            "line 3: 'a' stands in line 2 too, and they differ in MMLU: '0.4' and '0.5'; keep the right one",
        ),
        (HEADER + "a,A,7,0.4,0.1\na,A,,0.4,0.1\n", "they differ in parameters: '7000000000.0' and none"),
        (HEADER + "a,A,7,0.4,0.1\nA,A,7,0.4,0.1\n", "they differ in the spelling of the model: 'a' and 'A'"),
        (
            HEADER + "=cmd|calc,A,7,0.4,0.1\n",
            "line 2, column 'Model': got '=cmd|calc', expected no name that a spreadsheet takes for a formula; "
            "rename the model",
        ),
        (HEADER + "a,@A,7,0.4,0.1\n", "line 2, column 'Family': got '@A', expected no name that a spreadsheet"),
        (
            HEADER + "a\x1b[31m,A,7,0.4,0.1\n",
            r"line 2, column 'Model': got 'a\x1b[31m', expected printable characters only; rename the model",
        ),
        (HEADER + '"a\nb",A,7,0.4,0.1\n', r"line 2, column 'Model': got 'a\nb', expected printable characters only"),
        (HEADER + "a\u202e,A,7,0.4,0.1\n", r"line 2, column 'Model': got 'a\u202e', expected printable"),
        (HEADER + "a\x00,A,7,0.4,0.1\n", "line 2"),
        (HEADER + "a" * 301 + ",A,7,0.4,0.1\n", "(301 characters)', expected at most 300 characters; rename"),
        (
            "model,family,params_b,=MMLU\na,A,7,0.4\n",
            "line 1, the name of a column: got '=MMLU', expected no name that a spreadsheet takes for a formula",
        ),
        (
            "family,params_b,MMLU\nA,7,0.4\n",
            "line 1: no column for the model among 'family', 'params_b', 'MMLU'; expected one such as 'Model' "
            "(model, model name, name)",
        ),
        ("model,params_b,MMLU\na,7,0.4\n", "line 1: no column for the family among"),
        ("model,family,MMLU\na,A,0.4\n", "line 1: no column for the size among 'model', 'family', 'MMLU'; expected"),
        ("model;family;params_b;MMLU\na;A;7;0.4\n", "line 1: one column only, 'model;family;params_b;MMLU'; separate"),
        (
            "model,family,size,MMLU\na,A,7,0.4\n",
            "line 1: column 'size' looks like a size of unknown kind or unit, expected one such as 'Model Size (B)'",
        ),
        ("model,family,params_b,MMLU\na,A,7,\n", "line 1: no column of benchmark scores; expected one such as 'MMLU'"),
        (
            "model,family,params_b,size_b,MMLU\n",
            "line 1: columns 'params_b' and 'size_b' say the same; keep one of them",
        ),
        ("model,family,params_b,MMLU,mmlu (%)\n", "line 1: columns 'MMLU' and 'mmlu (%)' say the same"),
        ("model,family,params_b,MMLU,\n", "line 1: column 5 has no name; give it one, or remove it"),
        (HEADER + "a,A,7,0.4\n", "line 2: 4 cell(s), expected 5 as in the first line; leave unknown cells empty"),
        (HEADER + 'a,A,7,0.4,"0.1\n', "line 2: unexpected end of data; save the table as comma-separated values"),
        (HEADER + "a,A,,0.4,0.1\n", "no model with a name, a family, a size and a score; line 2: no number of param"),
        (HEADER, "line 1: no column of benchmark scores"),
        ("", "empty; expected a line with the names of the columns, then one line per model"),
        (HEADER.encode() + b"caf\xe9,A,7,0.4,0.1\n", "line 2: byte 0xe9 is no UTF-8 text; save the table as UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place_its_value_and_the_remedy(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'scores.csv'}: ")
    assert message in str(caught.value)


def test_files_that_are_none_or_too_large_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("missing.csv", "cannot be read"), (".", "no file; name a file"), ("pipe", "no file")):
        with pytest.raises(UsageError, match=words):
            read_scores(tmp_path / name)
    with pytest.raises(UsageError, match="more than 10,000,000 bytes; expected a table of models"):
        read(tmp_path, b"a" * (N_BYTES_LIMIT + 1))


def test_members_stand_beside_the_largest_small_sibling_that_has_the_score(tmp_path: Path) -> None:
    lines = [
        "big,A,8,0.60,0.2",
        "huge,A,70,0.80,",
        "tiny,A,0.5,0.26,0",
        "small,A,2,0.35,",
        "middle,A,4,0.4,0.1",
        "lone,B,7,0.5,0.3",
        "twin-2,C,1,0.3,0.1",
        "twin-1,C,1,0.2,0.1",
        "large,C,6,0.4,0.1",
        "mini,D,1,0.3,0.1",
    ]
    scores = read(tmp_path, HEADER + "\n".join(lines) + "\n")
    cells = sibling_cells(scores, "MMLU")
    assert cells.frame.to_dict("records") == [
        {
            "model": model,
            "family": family,
            "n_parameters": n_parameters,
            "score": score,
            "chance": 0.25,
            "sibling": sibling,
            "sibling_score": sibling_score,
            "sibling_n_parameters": sibling_size,
            "log_size_ratio": pytest.approx(math.log(ratio), rel=1e-12),
            "tag": "published",
        }
        for model, family, n_parameters, score, sibling, sibling_score, sibling_size, ratio in (
            ("big", "A", 8 * 10**9, 0.60, "small", 0.35, 2 * 10**9, 4),
            ("huge", "A", 70 * 10**9, 0.80, "small", 0.35, 2 * 10**9, 35),
            ("large", "C", 6 * 10**9, 0.4, "twin-1", 0.2, 10**9, 6),
        )
    ]
    assert cells.excluded == (
        "A: neither member nor sibling by size: middle",
        "B: no sibling of at most 2e+09 parameters at all, so none for lone",
        "D: no model of at least 6e+09 parameters",
    )
    assert cells.remarks == (
        "chance on MMLU is 0.25: Hendrycks et al. 2021: four options for each question",
        "C: siblings of equal size, twin-1, twin-2; the first by name is taken",
    )
    maths = sibling_cells(scores, "GSM8K")  # small has no score on it, and huge neither
    assert list(maths.frame[["model", "sibling", "chance"]].itertuples(index=False, name=None)) == [
        ("big", "tiny", 0.0),
        ("large", "twin-1", 0.0),
    ]
    assert "A: no score on GSM8K: huge" in maths.excluded


def test_limits_of_size_are_those_asked_for(tmp_path: Path) -> None:
    scores = read(tmp_path, HEADER + "a,A,1,0.3,\nb,A,3,0.4,\nc,A,4,,0.1\nd,B,0.5,,0\ne,B,9,0.4,0\n")
    cells = sibling_cells(scores, "MMLU", sibling_at_most=1e9, member_at_least=3e9)
    assert list(cells.frame["model"]) == ["b"]
    assert cells.excluded == (
        "A: no score on MMLU: c",
        "B: no sibling of at most 1e+09 parameters with a score on MMLU, so none for e",
    )
    nobody = sibling_cells(scores, "MMLU", member_at_least=1e12).frame
    assert (len(nobody), str(nobody["n_parameters"].dtype), str(nobody["score"].dtype)) == (0, "int64", "float64")
    with pytest.raises(UsageError, match=r"at most 6e\+09 parameters and a member at least 6e\+09; give two positive"):
        sibling_cells(scores, "MMLU", sibling_at_most=6e9)
    with pytest.raises(UsageError, match="no benchmark 'mmlu'; choose one of MMLU, GSM8K"):
        sibling_cells(scores, "mmlu")


@pytest.mark.parametrize(
    ("name", "chance", "words"),
    [
        ("HellaSwag", 0.25, "four endings"),
        ("arc_challenge", 0.25, "four options for most questions"),
        ("Winogrande", 0.5, "two options"),
        ("XWinograd", 0.5, "two options"),
        ("HumanEval", 0.0, "chance on HumanEval is 0: .* written freely"),
        ("TruthfulQA mc2", 0.0, "TruthfulQA mc2 has no chance level, so 0 stands in its place"),
        ("Quiz", 0.0, "no chance level is known for Quiz: 0 stands in its place"),
    ],
)
def test_chance_and_where_it_is_from(tmp_path: Path, name: str, chance: float, words: str) -> None:
    scores = read(tmp_path, f"Model,Family,parameters_b,{name}\na,A,1,0.5\nb,A,7,0.6\n")
    cells = sibling_cells(scores, name)
    assert list(cells.frame["chance"]) == [chance]
    assert re.search(words, cells.remarks[0])


def test_sixteen_families_of_the_sample_have_members_and_a_sibling(sample: PublishedScores) -> None:
    frame = sibling_cells(sample, "MMLU").frame
    families = (
        "BLOOM,Cerebras-GPT,DeepSeek-Coder,Falcon,GPT-Neo/J,Gemma,Gemma-2,OLMo,OPT,Pythia,Qwen1.5,Qwen2,RWKV,"
        "StableLM,StarCoder,XGLM"
    )
    assert (len(frame), list(dict.fromkeys(frame["family"]))) == (37, families.split(","))
    member = frame.set_index("model").loc["EleutherAI/pythia-12b-deduped"]
    assert (member["sibling"], member["sibling_score"]) == ("EleutherAI/pythia-1.4b-deduped", 0.2555549665134659)
    assert member["log_size_ratio"] == pytest.approx(math.log(12 / 1.4), rel=1e-12)


def without_lines(scores: PublishedScores) -> tuple[object, ...]:
    """All that is read, but for the numbers of the lines it was read from."""
    excluded = sorted((item.model, item.reason) for item in scores.excluded)
    remarks = sorted(re.sub(r"line \d+", "line", remark) for remark in scores.remarks)
    return replace(scores, excluded=(), remarks=()), excluded, remarks


MESSY = (SAMPLE.read_text(encoding="utf-8").splitlines()[60:148:4]) + [
    "odd,O,3.0,1.0,1.0,0.27,0.4,0.7,0.66,0.35,0.04,0.65,0.1",
    "twice,T,3.0,,,0.27,,,,,,,",
    "twice,T,3,,,0.270,,,,,,,",
    "sizeless,T,,,,0.27,,,,,,,",
    "scoreless,T,3,,,,,,,,,,",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.permutations(MESSY))
def test_the_order_of_the_lines_changes_nothing(tmp_path: Path, rows: list[str]) -> None:
    header = SAMPLE.read_text(encoding="utf-8").partition("\n")[0]
    shuffled, expected = (read(tmp_path, "\n".join([header, *lines])) for lines in (rows, MESSY))
    assert without_lines(shuffled) == without_lines(expected)
    one, other = (sibling_cells(scores, "MMLU") for scores in (shuffled, expected))
    assert one.frame.equals(other.frame) and (one.excluded, one.remarks) == (other.excluded, other.remarks)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shares=st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_percent_and_fractions_say_the_same(tmp_path: Path, shares: list[int]) -> None:
    """Under a name that says so; without it percent of 0 and 1 alone would be taken for fractions."""
    read_back = []
    for name, unit in (("Quiz", 100), ("Quiz (%)", 1)):
        path = tmp_path / "scores.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["model", "family", "params_b", name])
            table.writerows([f"m{index}", "F", 1, share / unit] for index, share in enumerate(shares))
        read_back.append([row.scores["Quiz"] for row in read_scores(path).rows])
    assert read_back[0] == read_back[1] == [share / 100 for share in shares]
