"""Models that bring code, templates, damaged weights or impossible sizes: nothing of theirs runs, one line says why."""

from __future__ import annotations

import json
import pickle
import random
import resource
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from bench.escape import printable
from tests.bench.tiny_models import save_list_model, write_tiny_gguf
from tests.faults.children import Child, cli
from tests.faults.ledger import NOT_IN_THE_SLICE, Cases
from tests.faults.test_n_results import take_at_most

SIZES = ("--tasks", "country", "--limit", "20", "--n-names", "6", "--n-shots", "2")
CANARY = "canary"
MOST_MEGABYTES = 1500
"""Beside what the libraries take."""

Change = Callable[[Path, Path], None]
"""(folder of the model, folder of the canary)"""


class Planted:
    """A pickle that leaves a file when it is loaded."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.where / CANARY,))


def edit(name: str, **changes: Any) -> Change:
    """A JSON file of the model with these keys; `...` removes one; a value may be made from the canary's folder."""

    def change(folder: Path, where: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        for key, value in changes.items():
            if value is ...:
                content.pop(key, None)
            else:
                content[key] = value(where) if callable(value) else value
        path.write_text(json.dumps(content))

    return change


def put(name: str, content: str | bytes | Callable[[Path], bytes | str]) -> Change:
    """A file of the model with this content."""

    def change(folder: Path, where: Path) -> None:
        made = content(where) if callable(content) else content
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.encode() if isinstance(made, str) else made)

    return change


def without(name: str) -> Change:
    return lambda folder, where: (folder / name).unlink()


def both(*changes: Change) -> Change:
    def change(folder: Path, where: Path) -> None:
        for one in changes:
            one(folder, where)

    return change


def planted(where: Path) -> bytes:
    return pickle.dumps(Planted(where))


def code(where: Path) -> str:
    """A module that leaves a file when it is imported, and has all the classes that it may be asked for."""
    return (
        f"open({str(where / CANARY)!r}, 'w').close()\n"
        "from transformers import GPT2Config as Config, GPT2LMHeadModel as Model, GPT2TokenizerFast as Tokenizer\n"
    )


def zipped(folder: Path, where: Path) -> None:
    """What `torch.save` writes: a zip archive with a pickle, under the name of weights that are none."""
    torch.save({"weight": torch.zeros(2), "planted": Planted(where)}, folder / "model.safetensors")


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    """The weights with something done to the tensors."""

    def damage(folder: Path, where: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def raw(name: str, change: Callable[[bytes], bytes]) -> Change:
    """The bytes of a file with something done to them."""

    def damage(folder: Path, where: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return damage


def header(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Safetensors with another header."""
    (length,) = struct.unpack("<Q", content[:8])
    document = json.loads(content[8 : 8 + length])
    change(document)
    made = json.dumps(document).encode()
    return struct.pack("<Q", len(made)) + made + content[8 + length :]


def first_tensor(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(value for name, value in document.items() if name != "__metadata__")
    return found


AUTO_MAP = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": "evil.Tokenizer"}
WEIGHTS = "model.safetensors"
SECOND = "h.1.attn.c_attn.weight"
UNREADABLE = "cannot be read as a GGUF model"
NOT_FINITE = f"the tensor transformer.{SECOND} has NaN or infinite values"
ESCAPE = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}"
    "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}"
)


def template(text: str) -> Change:
    return edit("tokenizer_config.json", chat_template=lambda where: text.replace("CANARY", str(where / CANARY)))


REFUSED: dict[str, tuple[Change, str]] = {
    # pickles
    "pickle weights": (both(without(WEIGHTS), put("pytorch_model.bin", planted)), "only pickle weights"),
    "pickle weights .pt": (both(without(WEIGHTS), put("model.pt", planted)), "only pickle weights"),
    "pickle weights .pth": (both(without(WEIGHTS), put("consolidated.00.pth", planted)), "only pickle weights"),
    "an index that names a pickle": (
        both(without(WEIGHTS), put("pytorch_model-00001-of-00001.bin", planted),
             edit("model.safetensors.index.json", weight_map={"x": "pytorch_model-00001-of-00001.bin"})),
        "cut off or damaged",
    ),
    "an index that leads out of the folder": (
        both(without(WEIGHTS), edit("model.safetensors.index.json", weight_map={"x": "../../etc/passwd"})),
        "has no weights",
    ),
    "a pickle called safetensors": (put(WEIGHTS, planted), "cut off or damaged"),
    "a zip of torch called safetensors": (zipped, "cut off or damaged"),
    "a redirection to a pickle": (
        both(put("evil.bin", planted), edit("config.json", transformers_weights="evil.bin")), "has the entry"
    ),
    "an adapter that is a pickle": (
        both(put("adapter_model.bin", planted), put("adapter_config.json", '{"peft_type": "LORA"}')), "adapter"
    ),
    # code of its own
    "code for an unknown architecture": (
        both(put("evil.py", code), edit("config.json", model_type="evil", auto_map=AUTO_MAP)), "code of its own"
    ),
    "code of another repository": (
        edit("config.json", model_type="evil", auto_map={k: f"someone/evil--{v}" for k, v in AUTO_MAP.items()}),
        "code of its own",
    ),
    "a type that is a path": (both(put("evil.py", code), edit("config.json", model_type="../evil")), "is unknown"),
    "a type that is an object": (edit("config.json", model_type={"a": 1}), "no JSON object with a model_type"),
    "no type": (edit("config.json", model_type=...), "no JSON object with a model_type"),
    "an encoder": (edit("config.json", model_type="bert"), "not a causal one"),
    # configuration
    "no configuration": (without("config.json"), "has no config.json"),
    "an empty configuration": (put("config.json", ""), "is not the configuration of a model"),
    "a configuration of another type": (put("config.json", "[]"), "is not the configuration of a model"),
    "a deep configuration": (put("config.json", "[" * 100_000), "is not the configuration of a model"),
    "a configuration of 50 MB": (put("config.json", '{"x": "' + "y" * 50_000_000), "is not the configuration"),
    "a width of 0": (edit("config.json", n_embd=0), "no model can be built"),
    "a width below 0": (edit("config.json", n_embd=-1), "no model can be built"),
    "a width of 10**12": (edit("config.json", n_embd=10**12), "no model can be built"),
    "a width of 10**6": (edit("config.json", n_embd=10**6), "they belong to different models"),
    "a width that is text": (edit("config.json", n_embd="16"), "config.json cannot be used"),
    "a width that is NaN": (edit("config.json", n_embd=float("nan")), "config.json cannot be used"),
    "10,000 blocks": (edit("config.json", n_layer=10_000), "asks for 10000 blocks; from 1 to"),
    "0 blocks": (edit("config.json", n_layer=0), "asks for 0 blocks; from 1 to"),
    "-5 blocks": (edit("config.json", n_layer=-5), "asks for -5 blocks; from 1 to"),
    "0 heads": (edit("config.json", n_head=0), "no model can be built"),
    "3 heads, which do not divide the width": (edit("config.json", n_head=3), "must be divisible by num_heads"),
    "10**9 positions": (edit("config.json", n_positions=10**9), "they belong to different models"),
    "10**12 tokens": (edit("config.json", vocab_size=10**12), "they belong to different models"),
    "fewer tokens than the tokenizer": (edit("config.json", vocab_size=50), "but config.json makes it (50, 16)"),
    "no such activation": (
        edit("config.json", activation_function="__import__('os').system('x')"), "no model can be built"
    ),
    # tokenizer
    "no tokenizer": (both(without("tokenizer.json"), without("tokenizer_config.json")), "has no tokenizer"),
    "an empty tokenizer": (put("tokenizer.json", ""), "the tokenizer in"),
    "a deep tokenizer": (put("tokenizer.json", "[" * 100_000), "the tokenizer in"),
    "a tokenizer of another type": (put("tokenizer.json", "[]"), "the tokenizer in"),
    "a tokenizer that is a pickle": (put("tokenizer.json", planted), "the tokenizer in"),
    # weights
    "weights cut in the middle": (raw(WEIGHTS, lambda text: text[: len(text) // 2]), "cut off or damaged"),
    "weights cut in the header": (raw(WEIGHTS, lambda text: text[:100]), "cut off or damaged"),
    "empty weights": (raw(WEIGHTS, lambda text: b""), "cut off or damaged"),
    "a header of 2**63 bytes": (raw(WEIGHTS, lambda text: struct.pack("<Q", 2**63) + text[8:]), "cut off or damaged"),
    "a header of 4 GB": (raw(WEIGHTS, lambda text: struct.pack("<Q", 2**32) + text[8:]), "cut off or damaged"),
    "a header that is no JSON": (raw(WEIGHTS, lambda text: text[:8] + b"\xff" * 50 + text[58:]), "cut off or damaged"),
    "a tensor of 2**60 numbers": (
        raw(WEIGHTS, lambda text: header(text, lambda made: first_tensor(made).update(shape=[2**30, 2**30]))),
        "cut off or damaged",
    ),
    "tensors that overlap": (
        raw(WEIGHTS, lambda text: header(text, lambda made: first_tensor(made).update(data_offsets=[0, 2**40]))),
        "cut off or damaged",
    ),
    "an unknown type of number": (
        raw(WEIGHTS, lambda text: header(text, lambda made: first_tensor(made).update(dtype="F1"))),
        "cut off or damaged",
    ),
    "a weight that is NaN": (weights(lambda made: made[f"transformer.{SECOND}"].fill_(float("nan"))), NOT_FINITE),
    "a weight that is infinite": (
        weights(lambda made: made[f"transformer.{SECOND}"][0, 0].fill_(float("inf"))), NOT_FINITE
    ),
    "a weight that is missing": (weights(lambda made: made.pop(f"transformer.{SECOND}")), SECOND),
    "a weight of another shape": (
        weights(lambda made: made.update({f"transformer.{SECOND}": torch.zeros(3, 3)})), SECOND
    ),
}  # fmt: skip
"""What is done to a model's folder, and a part of the line that refuses it; the line is one in any case."""

DAMAGED = (
    "cut off or damaged",
    "NaN or infinite",
    "expected the complete weights",
    "belong to different models",
    UNREADABLE,
)
"""What a line says of a file with a flipped bit."""

HARMLESS: dict[str, Change] = {
    "a pickle beside the weights": put("pytorch_model.bin", planted),
    "the state of a training": put("optimizer.pt", planted),
    "a cache that is a pickle": put("cache.pkl", planted),
    "code for the model": both(put("evil.py", code), edit("config.json", auto_map=AUTO_MAP)),
    "code for the tokenizer": both(put("evil.py", code), edit("tokenizer_config.json", auto_map=AUTO_MAP)),
    "trust in itself": both(
        put("evil.py", code), edit("config.json", auto_map=AUTO_MAP, trust_remote_code=True)
    ),
    "code that generates": both(
        put("custom_generate/generate.py", code), edit("generation_config.json", custom_generate="evil", do_sample=True)
    ),
    "a module of a name that is imported": both(put("torch.py", code), put("tokenizers.py", code)),
    "a template that leaves its sandbox": template(ESCAPE),
    "a template that never ends": template("{% for i in range(10**9) %}{{ i }}{% endfor %}"),
    "a template in a file": put("chat_template.jinja", lambda where: ESCAPE.replace("CANARY", str(where / CANARY))),
}  # fmt: skip
"""What a measurement neither reads nor needs."""

GGUF: dict[str, tuple[Callable[[bytes, Path], bytes], str]] = {
    "a pickle called .gguf": (lambda text, where: planted(where), "does not start with the GGUF magic bytes"),
    "an empty file": (lambda text, where: b"", "cannot mmap an empty file"),
    "another magic": (lambda text, where: b"GGML" + text[4:], "does not start with the GGUF magic bytes"),
    "version 99": (lambda text, where: text[:4] + struct.pack("<I", 99) + text[8:], "is GGUF v99"),
    "2**62 tensors": (lambda text, where: text[:8] + struct.pack("<Q", 2**62) + text[16:], UNREADABLE),
    "2**62 keys": (lambda text, where: text[:16] + struct.pack("<Q", 2**62) + text[24:], UNREADABLE),
    "a key of 2**62 bytes": (lambda text, where: text[:24] + struct.pack("<Q", 2**62) + text[32:], UNREADABLE),
    "cut in the header": (lambda text, where: text[:200], "unpack_from requires a buffer"),
    "cut in the keys": (lambda text, where: text[:3000], "unpack_from requires a buffer"),
    "cut before the end": (lambda text, where: text[: len(text) * 9 // 10], "cannot reshape array"),
    "no tokens": (
        lambda text, where: text.replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz"), "KeyError: 'tokens'"
    ),
    "another architecture": (
        lambda text, where: text.replace(b"general.architecture", b"general.architecturf"),
        "has no `general.architecture`",
    ),
}  # fmt: skip
"""What is done to a sound file, and a part of the line that refuses it."""


def limited(where: str, *arguments: str) -> None:
    """`bench`, and how much memory it took in the end."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    take_at_most(4 << 30)
    try:
        cli(*arguments)
    finally:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        Path(where).write_text(str(grown))
        sys.stderr.flush()


def measured(tmp_path: Path, model: Path, *command: str | Path) -> tuple[int, str]:
    """Status and output of `bench run` on a model; fails where it takes gigabytes."""
    arguments = [str(one) for one in (command or ("run", model, *SIZES, "--out", tmp_path / "results"))]
    log, memory = tmp_path / "log", tmp_path / "memory"
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    with Child(limited, str(memory), *arguments, log=log, environment=environment) as child:
        status = child.wait(120)
    assert float(memory.read_text()) < MOST_MEGABYTES, f"{memory.read_text()} MB"
    return status, log.read_text(errors="replace")


def check_refused(said: str, status: int, *parts: str) -> None:
    """One line that says why, with one of these words in it."""
    assert status == 2, f"status {status}:\n{said}"
    assert "Traceback" not in said, said
    lines = [line for line in said.splitlines() if line.startswith("bench: ")]
    assert len(lines) == 1 and said.rstrip().splitlines()[-1] == lines[0], said
    assert any(part in lines[0] for part in parts), lines[0]
    assert len(lines[0]) < 1000 and printable(lines[0]) == lines[0], lines[0]


ALWAYS = ("10,000 blocks", "a weight that is NaN", "a width of 10**6", "pickle weights")
"""One for each part, also in the default suite."""


def always(chosen: list[str], part: int) -> list[str]:
    return list(dict.fromkeys((ALWAYS[part], *(name for name in chosen if name not in ALWAYS))))


@pytest.mark.parametrize("part", range(4))
def test_a_hostile_model_is_refused_in_one_line(cases: Cases, tmp_path: Path, part: int) -> None:
    for place, name in enumerate(always(cases.chosen(sorted(REFUSED)[part::4], quick=1), part)):
        change, expected = REFUSED[name]
        with cases.case(name):
            here = tmp_path / str(place)
            model = save_list_model(here / "model")
            change(model, here)
            status, said = measured(here, model)
            check_refused(said, status, expected)
            assert not (here / CANARY).exists(), "its code was run"
            assert not list((here / "results").rglob("*.json"))


@NOT_IN_THE_SLICE
def test_what_is_harmless_is_not_run_and_changes_nothing(cases: Cases, tmp_path: Path) -> None:
    plain = save_list_model(tmp_path / "plain" / "model")
    assert measured(tmp_path / "plain", plain)[0] == 0
    expected = _numbers(tmp_path / "plain" / "results")
    for place, name in enumerate(dict.fromkeys(("code for the model", *cases.chosen(sorted(HARMLESS), quick=1)))):
        with cases.case(name):
            here = tmp_path / str(place)
            model = save_list_model(here / "model")
            HARMLESS[name](model, here)
            status, said = measured(here, model)
            assert status == 0, said
            assert not (here / CANARY).exists(), "its code was run"
            assert _numbers(here / "results") == expected


def _numbers(results: Path) -> list[Any]:
    """What does not depend on the noise, which is another for other files."""
    records = [json.loads(path.read_text()) for path in sorted(results.glob("emergence/*/*.json"))]
    return [
        (
            record["model"]["weights_sha256"],
            [(row["exact_bits"], row["macro_ceiling_bits"]) for row in record["summary"]],
        )
        for record in records
    ]


@pytest.mark.parametrize("part", range(2))
def test_a_hostile_gguf_file_is_refused_in_one_line(cases: Cases, tmp_path: Path, part: int) -> None:
    write_tiny_gguf(tmp_path / "sound.gguf")
    sound = (tmp_path / "sound.gguf").read_bytes()
    for number, name in enumerate(cases.chosen(sorted(GGUF)[part::2], quick=2)):
        with cases.case(f"GGUF: {name}"):
            change, expected = GGUF[name]
            here = tmp_path / str(number)
            here.mkdir()
            (here / "model.gguf").write_bytes(change(sound, here))
            status, said = measured(here, here / "model.gguf")
            check_refused(said, status, UNREADABLE)
            check_refused(said, status, expected)
            assert not (here / CANARY).exists(), "its code was run"
            left = [path for path in (here / "cache").rglob("*.safetensors")]
            assert not left, left


def flipped(content: bytes, rng: random.Random, start: int, end: int) -> tuple[bytes, int]:
    """The content with a bit of one of these bytes flipped, and which byte that is."""
    place = rng.randrange(start, end)
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :], place


def check_refused_or_measured(here: Path, model: Path, *command: str | Path) -> set[str]:
    """One line that says why not, or finite numbers; the weights that these are of."""
    status, said = measured(here, model, *command)
    found = [path.read_text() for path in sorted((here / "results").glob("*/*/*.json"))]
    if status:
        check_refused(said, status, *DAMAGED)
        assert found == []
    else:
        assert "Traceback" not in said and len(found) == 1, said
    records = [json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the record")) for text in found]
    return {record["model"]["weights_sha256"] for record in records}


def check_asked(here: Path) -> set[str]:
    """The same of a GGUF file, whose tokenizer has no names to measure."""
    model = here / "model.gguf"
    asked = ("query", model, "--tasks", "antonym", "--shots", "1", "--n-queries", "2", "--out", here / "results")
    return check_refused_or_measured(here, model, *asked)


@pytest.mark.parametrize("where", ["header", pytest.param("data", marks=NOT_IN_THE_SLICE)])
def test_a_flipped_bit_of_safetensors_is_refused_or_makes_other_weights(
    cases: Cases, tmp_path: Path, where: str
) -> None:
    model = save_list_model(tmp_path / "sound" / "model")
    (usual,) = check_refused_or_measured(model.parent, model)
    sound = (model / WEIGHTS).read_bytes()
    n_header = 8 + struct.unpack("<Q", sound[:8])[0]
    for number in range(cases.n(quick=1, full=40)):
        content, place = flipped(sound, cases.rng, *((0, n_header) if where == "header" else (n_header, len(sound))))
        with cases.case(f"safetensors: a bit of byte {place}"):
            here = tmp_path / str(number)
            model = save_list_model(here / "model")
            (model / WEIGHTS).write_bytes(content)
            assert usual not in check_refused_or_measured(here, model), "the flip was not noticed"
            shutil.rmtree(here)


@NOT_IN_THE_SLICE
def test_a_flipped_bit_of_a_gguf_file_is_refused_or_makes_other_weights(cases: Cases, tmp_path: Path) -> None:
    """What is not a number of a tensor, such as a word of the tokenizer, may leave the weights as they are."""
    (tmp_path / "sound").mkdir()
    write_tiny_gguf(tmp_path / "sound" / "model.gguf")
    sound = (tmp_path / "sound" / "model.gguf").read_bytes()
    tensors = [(one.data_offset, int(one.n_bytes)) for one in GGUFReader(tmp_path / "sound" / "model.gguf").tensors]
    (usual,) = check_asked(tmp_path / "sound")
    for number in range(cases.n(quick=3, full=60)):
        start, end = ((0, 300), (0, tensors[0][0]), (tensors[0][0], len(sound)))[number % 3]
        content, place = flipped(sound, cases.rng, start, end)
        with cases.case(f"GGUF: a bit of byte {place}"):
            here = tmp_path / str(number)
            here.mkdir()
            (here / "model.gguf").write_bytes(content)
            weights = check_asked(here)
            is_number = any(begin <= place < begin + n_bytes for begin, n_bytes in tensors)
            assert usual not in weights or not is_number, "the flip was not noticed"
            shutil.rmtree(here)


UNUSABLE, UNSEEN = "cannot be used", "does not show the model the prompt"
TEMPLATES = {
    "an escape": (ESCAPE, UNUSABLE),
    "a loop": ("{% for i in range(10**9) %}x{% endfor %}", UNUSABLE),
    "multiplied text": ("{% set x = 'y' * 10**6 %}{{ x }}", UNSEEN),
    "an error with controls": ("{{ raise_exception('\x1b[31mred\nmore') }}", UNUSABLE),
    "an include": ("{% include '/etc/passwd' %}", UNUSABLE),
    "a method of a method": ("{{ messages[0].content.format.__func__ }}", UNSEEN),
    "padding": ("{{ '%1000000d' % 1 }}", UNSEEN),
    "no template": ("{% if %}", UNUSABLE),
}
"""By name: a template, and a part of the line that refuses it."""
LARGE_TEMPLATES = {
    "few tokens of much text": ("{{ 'y' * 10**6 + messages[0].content }}", 0),
    "padding": ("{{ '%1000000d' % 1 }}{{ messages[0].content }}", 0),
    "more tokens than the model can hold": ("{{ 'y,' * 10**6 + messages[0].content }}", 2),
}
"""By name: a template that shows the prompt, and how many of two questions fail."""


def asked_in_chat(here: Path, text: str) -> tuple[int, str]:
    """Status and output of `bench query` on a model with this chat template."""
    model = save_list_model(here / "model")
    template(text)(model, here)
    asked = ("--tasks", "antonym", "--shots", "1", "--n-queries", "2", "--out", here / "results")
    status, said = measured(here, model, "query", model, "--mode", "chat", *asked)
    assert not (here / CANARY).exists(), "its code was run"
    return status, said


def test_a_hostile_chat_template_is_refused_in_one_line(cases: Cases, tmp_path: Path) -> None:
    """The only place where a template is used: a model that is asked as a chat model, here."""
    first = ("an error with controls", "padding")
    for place, name in enumerate(dict.fromkeys((*first, *cases.chosen(sorted(TEMPLATES), quick=0)))):
        with cases.case(f"template with {name}"):
            here = tmp_path / str(place)
            text, expected = TEMPLATES[name]
            status, said = asked_in_chat(here, text)
            check_refused(said, status, expected)
            assert "the chat template of" in said and not list((here / "results").rglob("*.json"))


def test_a_large_chat_template_takes_no_gigabytes(cases: Cases, tmp_path: Path) -> None:
    """Where it shows the prompt it runs no code, so the model is asked; what it cannot hold is a failed question."""
    for place, name in enumerate(cases.chosen(sorted(LARGE_TEMPLATES), quick=1)):
        with cases.case(f"template with {name}"):
            here = tmp_path / str(place)
            text, n_failed = LARGE_TEMPLATES[name]
            status, said = asked_in_chat(here, text)
            assert status == (1 if n_failed else 0) and "Traceback" not in said, f"status {status}:\n{said}"
            (record,) = [json.loads(path.read_text()) for path in (here / "results").rglob("*.json")]
            assert [cell["n_failed"] for cell in record["cells"]] == [n_failed]


@NOT_IN_THE_SLICE
def test_bench_add_refuses_a_hostile_model_like_bench_run(cases: Cases, tmp_path: Path) -> None:
    for place, name in enumerate(cases.chosen(("pickle weights", "a weight that is NaN", "10,000 blocks"), quick=1)):
        change, expected = REFUSED[name]
        with cases.case(f"bench add: {name}"):
            here = tmp_path / str(place)
            model = save_list_model(here / "model")
            change(model, here)
            status, said = measured(
                here, model, "add", model, "--yes", "--out", here / "results", "--board", here / "board.md"
            )
            assert status in (1, 2) and "Traceback" not in said, said
            assert expected in said and not (here / CANARY).exists()
