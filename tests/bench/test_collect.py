"""Text gathered from a tiny model here, and over a loopback socket with the official client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.answering import Service
from bench.api.budget import Budget
from bench.api.failures import BudgetReached, ServiceError
from bench.api.keys import ReplyKey
from bench.api.retry import Limits
from bench.cli import app, main
from bench.cli_collect import collect as collect_command
from bench.collect import (
    CollectOutcome,
    CollectRequest,
    as_paragraphs,
    collect,
    dry_run,
    openings,
    paragraph,
)
from bench.completions import Request, Sampling
from bench.errors import ModelError, StorageError, UsageError
from bench.generation import LocalCompleter
from bench.prompt_files import MAX_CHARACTERS, read_prompts
from bench.store import samples_path
from bench.text_records import TextRecord, TextSample
from tasks import load_task
from tasks.task import TextTask
from tests.bench.scripted_server import ScriptedServer, always, at, for_prompts
from tests.bench.test_generation import answered, awake, texts
from tests.bench.tiny_models import save_tiny
from tests.bench.told import Told

ROOT = Path(__file__).parent.parent.parent
CANARY = "sk-canary/0123456789+abcdef=ghij"
HURRIED = Limits(
    max_attempts=3, attempt_seconds=0.5, total_seconds=3.0, max_concurrency=4, backoff_seconds=0.02,
)  # fmt: skip
PROMPTS = tuple(f"The story of number {number}" for number in range(20))

ENTRY = "from bench.cli import app, main; from bench.cli_collect import collect; app.command()(collect); main()"
"""The whole command line, as `python -m bench` is."""

if all(registered.callback is not collect_command for registered in app.registered_commands):
    app.command()(collect_command)


def tale(prompt: str) -> str:
    return f" begins here. It is {prompt[-2:].strip()} pages long. And then"


def service(server: ScriptedServer, **changes: Any) -> Service:
    return replace(Service(base_url=server.base_url, limits=HURRIED), **changes)


def request(folder: Path, **changes: Any) -> CollectRequest:
    fields: dict[str, Any] = {"model": "big-1", "prompts": PROMPTS, "results": folder}
    return CollectRequest(**(fields | changes))


def run(asked: CollectRequest) -> CollectOutcome:
    return collect(asked, Told())


def samples_of(outcome: CollectOutcome) -> list[TextSample]:
    return [TextSample.model_validate_json(line) for line in samples_path(outcome.path).read_bytes().splitlines()]


def test_text_samples_and_record_are_written_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    with ScriptedServer(answer=tale, model_id="big-1-2026-11-01") as server:
        outcome = run(request(tmp_path, service=service(server), licence="CC0-1.0"))
    assert outcome.path == tmp_path / "texts" / "big-1.txt"
    paragraphs = outcome.path.read_text(encoding="utf-8").split("\n\n")
    assert [one.strip() for one in paragraphs] == [tale(prompt).strip() for prompt in PROMPTS]
    assert [sample.prompt for sample in samples_of(outcome)] == list(PROMPTS)
    assert [sample.reply for sample in samples_of(outcome)] == [tale(prompt) for prompt in PROMPTS]
    record = TextRecord.model_validate_json((tmp_path / "texts" / "big-1.json").read_bytes())
    assert record == outcome.record and record.is_complete
    assert (record.n_answered, record.n_failed, record.n_not_asked, record.n_cut_off) == (20, 0, 0, 0)
    assert (record.n_paragraphs, record.n_sentences, record.n_words) == (20, 60, 20 * 9)
    assert (record.licence, record.returned_models) == ("CC0-1.0", ("big-1-2026-11-01",))
    assert "--temperature 1.0 --top-p 1.0 --seed 0" in record.provenance.command


def test_what_is_complete_is_not_asked_again_and_more_prompts_ask_only_what_is_new(tmp_path: Path) -> None:
    with ScriptedServer(answer=tale) as server:
        asked = request(tmp_path, prompts=PROMPTS[:8], service=service(server))
        first = run(asked)
        again = run(asked)
        assert again.was_there and again.record == first.record and len(server.received) == 8
        assert run(replace(asked, licence="MIT")).record.licence == "MIT"
        assert dry_run(asked, Told()).estimate.n_requests == 0
        more = replace(asked, prompts=PROMPTS, out=tmp_path / "more.txt")
        assert dry_run(more, Told()).n_known == 8
        assert not run(more).was_there
        assert len(server.received) == 20


def test_a_kill_between_two_files_leaves_them_to_be_written_again(tmp_path: Path) -> None:
    with ScriptedServer(answer=tale) as server:
        first = run(request(tmp_path, service=service(server)))
        text = first.path.read_bytes()
        for path in (first.path, samples_path(first.path)):
            path.unlink()
            again = run(request(tmp_path, service=service(server)))
            assert not again.was_there and first.path.read_bytes() == text
        assert len(server.received) == 20


def test_other_files_are_never_overwritten(tmp_path: Path) -> None:
    people = tmp_path / "people.txt"
    people.write_text("What people wrote.\n")
    with ScriptedServer(answer=tale) as server:
        with pytest.raises(UsageError, match=r"people\.txt is there, and no record of a collection beside it"):
            run(request(tmp_path, out=people, service=service(server)))
        run(request(tmp_path, service=service(server)))
        with pytest.raises(UsageError, match=r"of another collection \(other temperature, top_p, seed\); choose"):
            run(request(tmp_path, temperature=0, service=service(server)))
        with pytest.raises(UsageError, match=r"other prompts_sha256, n_prompts"):
            dry_run(request(tmp_path, prompts=PROMPTS[:3], service=service(server)), Told())
        (tmp_path / "texts" / "big-1.json").write_text("{")
        with pytest.raises(UsageError, match="not overwritten: choose another --out"):
            run(request(tmp_path, service=service(server)))
        assert len(server.received) == 20
    assert people.read_text() == "What people wrote.\n"


def test_failed_prompts_are_counted_and_asked_again(tmp_path: Path) -> None:
    refused = dict.fromkeys(PROMPTS[::4], "400")
    with ScriptedServer(answer=tale, faults=for_prompts(refused)) as server:
        outcome = run(request(tmp_path, service=service(server)))
        record = outcome.record
        assert (record.n_answered, record.n_failed, record.n_paragraphs, record.is_complete) == (15, 5, 15, False)
        failures = [sample.failure for sample in samples_of(outcome)]
        assert [failure is not None for failure in failures] == [prompt in refused for prompt in PROMPTS]
        assert failures[0] is not None and "this prompt is refused" in failures[0].message
        server.faults = lambda number, prompt: None
        n_before = len(server.received)
        again = run(request(tmp_path, service=service(server)))
        assert sorted(one.prompt for one in server.received[n_before:]) == sorted(refused)
    assert not again.was_there and again.record.is_complete and again.record.n_paragraphs == 20


def test_a_budget_ends_the_run_with_the_text_so_far_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "texts" / "big-1.txt"
    with ScriptedServer(answer=tale) as server:
        capped = service(server, budget=Budget(max_requests=7))
        with pytest.raises(BudgetReached, match=r"--max-requests.*holds the text of 7 of 20 prompts"):
            run(request(tmp_path, service=capped))
        record = TextRecord.model_validate_json(path.with_suffix(".json").read_bytes())
        assert (record.n_answered, record.n_not_asked, record.n_failed) == (7, 13, 0)
        assert len(path.read_text().strip().split("\n\n")) == 7
        assert run(request(tmp_path, service=service(server))).record.is_complete
        assert len(server.received) == 20


def test_a_server_that_refuses_everything_leaves_no_files(tmp_path: Path) -> None:
    with ScriptedServer(faults=always("401")) as server:
        with pytest.raises(ServiceError, match="Incorrect API key"):
            run(request(tmp_path, service=service(server)))
        assert len(server.received) <= 3 + HURRIED.max_concurrency
    assert not list((tmp_path / "texts").iterdir())


def test_services_are_sent_temperature_and_seed_and_answers_are_kept_apart(tmp_path: Path) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {}, {"temperature": 0.7, "seed": 3}, {"top_p": 0.9}, {"temperature": 0}, {"temperature": 0, "seed": 5},
        {"no_temperature": True}, {"mode": "chat"},
    )  # fmt: skip
    with ScriptedServer(answer=tale) as server:
        bodies = []
        for number, change in enumerate(changes):
            asked = service(server, send_temperature=not change.pop("no_temperature", False))
            out = tmp_path / f"{number}.txt"
            run(request(tmp_path, prompts=PROMPTS[:2], out=out, service=asked, **change))
            bodies.append(server.received[-1].body)
        assert len(server.received) == 2 * (len(changes) - 1)  # greedily the seed makes no difference
    sent = [{name: body[name] for name in ("temperature", "top_p", "seed") if name in body} for body in bodies]
    assert sent == [
        {"temperature": 1.0, "seed": 0}, {"temperature": 0.7, "seed": 3}, {"temperature": 1.0, "top_p": 0.9, "seed": 0},
        {"temperature": 0.0}, {"temperature": 0.0}, {"seed": 0}, {"temperature": 1.0, "seed": 0},
    ]  # fmt: skip
    assert all(body["max_tokens"] == 64 and "stop" not in body for body in bodies)


def test_keys_of_greedy_answers_are_what_they_were_before_anything_could_be_drawn() -> None:
    """The digest was computed before temperatures other than 0 were among the values."""
    key = ReplyKey(
        provider="local", base_url=None, model="tiny", revision="v1", files_sha256="f" * 64, precision="float32",
        dtype="float32", mode="completion", prompt="France:", max_tokens=16, stop=("\n",), temperature=0,
        task="country-capital", task_version=1, task_hash="h" * 64, seed=0,
    )  # fmt: skip
    assert key.digest() == "2d59186c1aa4c6831569f89c39b72974c07bd90d24ef8a0966f9518a4b774651"
    assert "top_p" not in key.canonical()
    assert Request(prompt="a", mode="completion", max_tokens=1).sampling is None
    drawn = [key.model_copy(update=change) for change in ({"temperature": 1.0}, {"temperature": 0.5}, {"top_p": 1.0})]
    assert len({one.digest() for one in (key, *drawn)}) == 4


SAMPLING = Sampling(temperature=1.0, seed=3)
LOCAL_PROMPTS = tuple(
    f"{start} {end}" for start in ("the cat", "a dog and the") for end in ("is", "an", "in", "the th")
)


def drawn(
    model: Any, *, batch_size: int, prompts: Sequence[str] = LOCAL_PROMPTS, sampling: Sampling | None = SAMPLING
) -> dict[str, str]:
    completer = LocalCompleter(model, batch_size=batch_size)
    asked = [Request(prompt=prompt, mode="completion", max_tokens=12, sampling=sampling) for prompt in prompts]
    return dict(zip(prompts, texts(answered(completer, asked)), strict=True))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bloom"])  # bloom cannot share prefixes
def test_drawn_text_is_the_same_whatever_the_batch(architecture: str) -> None:
    model = awake(architecture)
    alone = drawn(model, batch_size=1)
    assert drawn(model, batch_size=3, prompts=LOCAL_PROMPTS[::-1]) == alone
    assert drawn(model, batch_size=64) == alone
    assert drawn(model, batch_size=2, prompts=LOCAL_PROMPTS[2:5]).items() <= alone.items()
    assert len(set(alone.values())) == len(alone)
    assert drawn(model, batch_size=64, sampling=replace(SAMPLING, seed=4)) != alone


@pytest.mark.parametrize("architecture", ["gpt2", "bloom"])
def test_from_a_nucleus_of_one_token_the_most_probable_one_is_drawn(architecture: str) -> None:
    model = awake(architecture)
    greedy = drawn(model, batch_size=64, sampling=None)
    assert drawn(model, batch_size=64, sampling=Sampling(top_p=1e-6)) == greedy
    assert drawn(model, batch_size=64) != greedy


def test_both_ways_of_decoding_draw_the_same() -> None:
    model = awake("gpt2")
    requests = [Request(prompt=prompt, mode="completion", max_tokens=12, sampling=SAMPLING) for prompt in LOCAL_PROMPTS]
    shared, plain = LocalCompleter(model), LocalCompleter(model)
    plain.shares_prefixes = False
    assert texts(answered(shared, requests)) == texts(answered(plain, requests))
    assert shared.shares_prefixes


def test_a_tiny_model_here_is_asked_once_and_found_again(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    asked = request(tmp_path / "results", model=str(tmp_path / "tiny"), prompts=LOCAL_PROMPTS, max_tokens=8)
    planned = dry_run(asked, Told())
    assert (planned.n_prompts, planned.n_known, planned.path.name) == (8, 0, "tiny.txt")
    first = run(asked)
    assert first.record.key.provider == "local" and first.record.key.files_sha256
    assert first.record.model is not None and first.record.model.name == "tiny"
    assert (first.record.n_answered, first.record.key.seed) == (8, 0)
    assert run(asked).was_there
    samples = samples_of(first)
    for path in (first.path, samples_path(first.path), first.path.with_suffix(".json")):
        path.unlink()
    (tmp_path / "results" / ".replies" / "replies.sqlite").unlink()
    assert samples_of(run(asked)) == samples  # drawn anew, and the same
    long = run(replace(asked, prompts=("the " * 80,), out=tmp_path / "long.txt"))
    assert (long.record.n_failed, long.path.read_bytes()) == (1, b"")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ()}, "expected prompts, at least one"),
        ({"prompts": ("a", "a")}, "each once"),
        ({"max_tokens": 0}, "--max-tokens must be from 1 to 4096, got 0"),
        ({"temperature": -1}, "--temperature must be 0, .* or from 0.01 to 10, got -1"),
        ({"temperature": float("nan")}, "got nan"),
        ({"temperature": 1e-9}, "got 1e-09"),
        ({"top_p": 0.0}, "--top-p must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.1}, "got 1.1"),
        ({"temperature": 0, "top_p": 0.5}, "--top-p has no say at --temperature 0"),
        ({"service": Service(send_temperature=False), "temperature": 0.5}, "--no-temperature sends neither"),
        ({"seed": -1}, "--seed must be between"),
        ({"mode": "talk"}, "unknown mode 'talk'"),
        ({"licence": "a\nb"}, "--licence must be one line"),
        ({"out": Path("text.json")}, "--out must be a name that ends in .txt"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    for act in (collect, dry_run):
        with pytest.raises(UsageError, match=message):
            act(request(tmp_path, **changes), Told())
    with pytest.raises(ModelError, match="give --base-url or --api-key-env"):
        run(request(tmp_path, model="gpt-nonsense"))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("a file in the way")
    with ScriptedServer(answer=tale) as server:
        with pytest.raises(StorageError, match="cannot write .*texts"):
            run(request(tmp_path, service=service(server)))
        assert server.received == []


@pytest.mark.parametrize(
    ("reply", "finish_reason", "expected"),
    [
        (" one. Two and", "length", "one."),
        (" one. Two and", "stop", "one. Two and"),
        (" one and two", "length", ""),
        (" one. Two.", "length", "one. Two."),
        (' said "no." Then', "length", 'said "no."'),
        (" he said: “Two.”", "length", "he said: “Two.”"),
        (" one.\n\nTwo\tand\x1b[0m so.", "stop", "one. Two and\ufffd[0m so."),
        (" a heading\n\n and", "length", ""),
        ("", "stop", ""),
    ],
)
def test_an_incomplete_last_sentence_is_left_out_where_tokens_ran_out(
    reply: str, finish_reason: str, expected: str
) -> None:
    sample = TextSample(prompt="This is", reply=reply, finish_reason=finish_reason)
    assert paragraph(sample) == expected
    assert paragraph(sample, with_prompt=True) == (f"This is {expected}" if expected else "")


@pytest.mark.parametrize(
    ("reply", "finish_reason", "expected"),
    [
        (" one.", "length", "one."),
        (" one. Two. Three and", "length", "one."),
        (" one! Two and", "stop", "one!"),
        (" one. and 2? Two.", "stop", "one. and 2?"),
        (" one and two", "length", ""),
        (" one and two", "stop", "one and two"),
        (" one. and two", "length", ""),  # no capital letter, no new sentence
        (" met Dr. Jones. Then", "length", "met Dr."),
        (" in 500 B.C. by men, e.g. here. Then", "length", "in 500 B.C. by men, e.g. here."),
        (". Then he slept.", "stop", "."),
        (' said "no." Then', "length", 'said "no."'),
        (' said "no." "Then', "length", 'said "no."'),
        (" one\x1b. One\x1b. One", "length", "one\ufffd."),
        (" a heading\n\nand more", "length", "a heading"),
        (" one\nand two. Three", "length", "one and two."),
        ("", "stop", ""),
    ],
)
def test_of_an_answer_only_the_sentence_is_kept_that_the_prompt_began(
    reply: str, finish_reason: str, expected: str
) -> None:
    sample = TextSample(prompt="This is", reply=reply, finish_reason=finish_reason)
    assert paragraph(sample, first_sentence=True) == expected
    apart = " " if reply[:1] == " " else ""
    whole = f"This is{apart}{expected}" if expected else ""
    assert paragraph(sample, with_prompt=True, first_sentence=True) == whole


def test_first_sentences_are_another_text_of_the_same_replies(tmp_path: Path) -> None:
    with ScriptedServer(answer=tale) as server:
        whole = run(request(tmp_path, service=service(server)))
        first = request(tmp_path, service=service(server), first_sentence=True)
        with pytest.raises(UsageError, match=r"of another collection \(other first_sentence\)"):
            run(first)
        outcome = run(replace(first, out=tmp_path / "first.txt"))
        assert len(server.received) == 20
    assert outcome.path.read_text(encoding="utf-8") == "\n\n".join(["begins here."] * 20) + "\n"
    assert samples_of(outcome) == samples_of(whole)
    record = outcome.record
    assert (record.n_paragraphs, record.n_sentences, record.n_words) == (20, 20, 40)
    assert "--first-sentence" in record.provenance.command
    assert "--first-sentence" not in whole.record.provenance.command


def test_prompts_go_before_their_answers_as_they_were_continued() -> None:
    assert paragraph(TextSample(prompt="The cat", reply="s sleep."), with_prompt=True) == "The cats sleep."
    assert paragraph(TextSample(prompt="Hello?", reply="Hi."), with_prompt=True, mode="chat") == "Hello? Hi."
    assert as_paragraphs(["a", "b"]) == b"a\n\nb\n"
    assert as_paragraphs([]) == b""


def test_openings_are_of_every_other_sentence_that_is_long_enough() -> None:
    sentences = [f"Sentence {number} has " + " ".join(f"w{word}" for word in range(11)) for number in range(40)]
    sentences[0] = "Sentence 0 is short"
    found = openings(sentences, n_openings=19)
    assert {one.prompt for one in found} == {f"Sentence {number} has w0 w1 w2" for number in range(2, 40, 2)}
    assert {one.continuation for one in found} == {"w3 w4 w5 w6 w7 w8 w9 w10"}
    assert openings(sentences, n_openings=5) == found[:5] or set(openings(sentences, n_openings=5)) < set(found)
    assert openings(sentences, n_openings=5) == openings(sentences, n_openings=5)
    assert openings(sentences, n_openings=5, seed=1) != openings(sentences, n_openings=5)
    for too_many in (0, 20):
        with pytest.raises(UsageError, match=f"{too_many} openings were asked for, and the text has 19 distinct ones"):
            openings(sentences, n_openings=too_many)
    assert len(openings([sentences[2]] * 9, n_openings=1)) == 1


def test_prompts_are_read_a_line_each(tmp_path: Path) -> None:
    text, lines = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_bytes("\ufeffOne two\r\n\n  \nZwölf \u2028 drei  \nOne two\n".encode())
    file = read_prompts(text)
    assert (file.name, file.prompts, file.n_repeated) == ("p.txt", ("One two", "Zwölf \u2028 drei"), 1)
    lines.write_text('{"prompt": "a\\n b ", "more": 1}\n\n{"prompt": "c"}\n', encoding="utf-8")
    assert read_prompts(lines).prompts == ("a\n b ", "c")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"", r"p\.txt holds no prompt; expected one a line"),
        ("p.txt", b"\n \n", "holds no prompt"),
        ("p.jsonl", b"", r'expected \{"prompt": "\.\.\."\} a line'),
        ("p.txt", b"a\nb\xff\n", r"p\.txt:2: not UTF-8 text \(byte 3 of the file\)"),
        ("p.txt", b"a\nb\x00c", r"p\.txt:2: holds the control character U\+0000"),
        ("p.txt", b"a\n\n\x1b[31mred", r"p\.txt:3: holds the control character U\+001B"),
        ("p.txt", b"x" * (MAX_CHARACTERS + 1), r"p\.txt:1: a prompt of 20001 characters; 20000 is the most"),
        ("p.jsonl", b'{"prompt": "a"}\nnonsense', r"p\.jsonl:2: not JSON"),
        ("p.jsonl", b"[" * 100_000, r"p\.jsonl:1: (not JSON|holds no text)"),
        ("p.jsonl", b'{"prompt": 3}', r'p\.jsonl:1: holds no text under "prompt"'),
        ("p.jsonl", b'["prompt"]', r"p\.jsonl:1: holds no text"),
        ("p.jsonl", b'{"prompt": " "}', r"p\.jsonl:1: the prompt is empty"),
        ("p.jsonl", b'{"prompt": "a\\ud800"}', r"p\.jsonl:1: holds the control character U\+D800"),
        ("p.jsonl", b'{"prompt": ' + b"9" * 5000 + b"}", r"p\.jsonl:1: "),
    ],
)
def test_a_line_that_is_no_prompt_is_refused_by_number(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_prompts(tmp_path / name)


def test_what_is_no_file_of_prompts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path, tmp_path / "none.txt", Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(UsageError, match="is no file|cannot read"):
            read_prompts(path)
    monkeypatch.setattr("bench.prompt_files.MAX_FILE_BYTES", 10)
    (tmp_path / "large.txt").write_text("x" * 11)
    with pytest.raises(UsageError, match="larger than"):
        read_prompts(tmp_path / "large.txt")
    monkeypatch.setattr("bench.prompt_files.MAX_PROMPTS", 2)
    (tmp_path / "many.txt").write_text("a\nb\nc")
    with pytest.raises(UsageError, match=r"many\.txt:3: more than 2 prompts"):
        read_prompts(tmp_path / "many.txt")


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `bench collect` in this process; gives status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["collect", *arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_one_command_writes_openings_and_what_people_wrote(
    bench: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    prompts, people = tmp_path / "prompts.txt", tmp_path / "people.txt"
    arguments = ("--openings-of", "text-sample", "--n-prompts", "50", "--write-prompts", str(prompts))
    status, out, err = bench(*arguments, "--write-reference", str(people))
    assert (status, out) == (0, "") and "50 from text-sample (licence: LicenseRef-public-domain)" in err
    text = load_task("text-sample")
    assert isinstance(text, TextTask)
    starts, rests = prompts.read_text().splitlines(), people.read_text().strip().split("\n\n")
    whole = {" ".join(sentence.split()) for sentence in text.sentences[::2]}
    assert all(f"{start} {rest}" in whole for start, rest in zip(starts, rests, strict=True))
    assert {len(start.split()) for start in starts} == {6} and min(len(rest.split()) for rest in rests) >= 8
    assert read_prompts(prompts).prompts == tuple(starts)
    assert bench(*arguments, "--temperature", "0")[0] == 2
    status, _, err = bench("--openings-of", str(tmp_path / "none"), "--n-prompts", "1", "--write-prompts", "x")
    assert status == 2 and "none" in err


def test_wrong_usage_is_told_with_the_remedy(bench: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a b\nc d\na b\n")
    cases = (
        ((), "expected a model and --prompts FILE"),
        (("m",), "expected a model and --prompts FILE"),
        (("m", "--prompts", str(prompts), "--write-prompts", "x"), "--write-prompts is for --openings-of alone"),
        (("m", "--prompts", str(prompts), "--max-usd", "1"), "--max-usd only says how a service is asked"),
        (("m", "--prompts", str(prompts), "--base-url", "http://127.0.0.1:9/v1", "--dtype", "float32"), "--dtype only"),
        (("m", "--prompts", str(prompts), "--n-prompts", "3"), "--n-prompts 3 is more than the 2 prompts of"),
        (("m", "--openings-of", "text-sample"), "--openings-of asks no model; leave 'm' out"),
        (("--openings-of", "text-sample"), "--openings-of needs --n-prompts with a number and --write-prompts"),
        (("--openings-of", "text-sample", "--prompts", str(prompts)), "--prompts has no say with --openings-of"),
    )
    for arguments, message in cases:
        status, out, err = bench(*arguments)
        assert (status, out) == (2, "") and message in err, err


def test_a_dry_run_sends_nothing_and_json_is_json(bench: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a b\nc d\na b\n")
    with ScriptedServer(answer=tale) as server:
        arguments = ("big-1", "--prompts", str(prompts), "--results", str(tmp_path), "--base-url", server.base_url)
        prices = ("--usd-per-million-input", "1", "--usd-per-million-output", "2")
        status, out, err = bench(*arguments, *prices, "--dry-run")
        assert status == 0 and server.received == []
        assert "requests: 2 if none fails" in out and "about 0.0003 USD" in out and "at most 128 of answers" in out
        assert "1 lines repeat a prompt; each is asked once" in err
        status, out, _ = bench(*arguments, "--json", "--with-prompts", "--n-prompts", "1")
        assert status == 0 and json.loads(out)["record"]["key"]["n_prompts"] == 1
        assert (tmp_path / "texts" / "big-1.txt").read_text().startswith("a b begins here.")
        only = tmp_path / "first.txt"
        assert bench(*arguments, "--first-sentence", "--out", str(only))[0] == 0
        assert only.read_text() == "begins here.\n\nbegins here.\n"


def command(server: ScriptedServer, folder: Path, *more: str) -> list[str]:
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"The story of number {number}\n" for number in range(40)))
    return [
        sys.executable, "-c", ENTRY, "collect", "big-1", "--prompts", str(prompts), "--base-url", server.base_url,
        "--max-concurrency", "4", "--results", str(folder), *more,
    ]  # fmt: skip


def test_the_command_tells_of_failures_and_no_output_holds_the_key(tmp_path: Path) -> None:
    environment = os.environ | {"CANARY_KEY": CANARY, "OPENAI_LOG": "debug"}
    with ScriptedServer(answer=lambda prompt: f" {CANARY}", faults=at({2: "400"}), echo_key=True) as server:
        done = subprocess.run(
            command(server, tmp_path, "--api-key-env", "CANARY_KEY"), cwd=ROOT, env=environment, capture_output=True
        )
        assert server.received[0].headers["authorization"] == f"Bearer {CANARY}"
    assert done.returncode == 1
    expected = b"1 of 40 prompts failed; the text of the 39 others is written; run the same command to ask them again"
    assert expected in done.stderr
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in content for content in (done.stdout, done.stderr, *written))
    assert b"[redacted]" in (tmp_path / "texts" / "big-1.txt").read_bytes() and len(written) > 4
