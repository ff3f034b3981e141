"""Gathering the text that a model writes when it continues prompts: here, or over the network.

Every answer is kept as soon as it is there, so a killed run asks nothing twice.
"""

from __future__ import annotations

import json
import random
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.answering import (
    Asking,
    Dtype,
    Service,
    Target,
    check_name,
    find_target,
    replies_file,
    unusual_token_limit,
)
from bench.api.budget import Budget, Estimate
from bench.api.cache import ReplyCache
from bench.api.failures import BudgetReached, ServiceError
from bench.api.keys import ReplyKey
from bench.cache import sha256_of
from bench.completions import MODES, Failure, Mode, Reply, Request, Sampling, total_tokens
from bench.errors import RecordError, UsageError
from bench.escape import printable
from bench.performance import FailedReply, sha256
from bench.progress import Progress
from bench.provenance import Start, provenance
from bench.records import ModelInfo
from bench.sources import source_revision
from bench.store import read_row, samples_path, slug, write_whole
from bench.text_records import MAX_TEMPERATURE, TEXT_SCHEMA, TextKey, TextRecord, TextSample
from tasks.text import sentences_of

MIN_TEMPERATURE = 0.01
"""Below it the most probable token always wins, which is what 0 is for."""

MAX_TOKENS = 4096

N_OPENING_WORDS = 6
"""Of a sentence, as a prompt: enough to know what it is about, and most of it is still to come."""

MIN_SENTENCE_WORDS = 14
"""Of a sentence that is taken: what comes after its opening is longer than the opening."""

EVERY = 2
"""One sentence in two is a candidate; the others are left for comparisons with text that no model was shown."""

_ENDED = re.compile(r"[.!?…][\"')\]”’»]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectRequest:
    """What to collect.

    Attributes:
        model: a name as `bench.catalog.resolve` takes it, or what the service calls it.
        prompts: distinct.
        prompts_name: of their file, for the command that the record keeps.
        out: the text file; None: in the results folder, named after the model.
        max_tokens: of an answer.
        temperature: 0: greedily, where small models soon repeat themselves.
        top_p: see `Sampling`.
        seed: of the drawing.
        with_prompts: begin every paragraph with its prompt.
        first_sentence: keep of an answer only the end of the sentence that its prompt began.
        licence: of the text, as the user says.
        service: who is asked; None: the model is loaded here.
        cache: file with the replies; None: in the results folder.
    """

    model: str
    prompts: tuple[str, ...]
    prompts_name: str = "prompts.txt"
    out: Path | None = None
    results: Path = Path("results")
    mode: Mode = "completion"
    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    with_prompts: bool = False
    first_sentence: bool = False
    licence: str = "unknown"
    service: Service | None = None
    cache: Path | None = None
    revision: str | None = None
    dtype: Dtype = "float32"
    device: str = "cpu"

    @property
    def cache_path(self) -> Path:
        """The file with the replies."""
        return replies_file(self.cache, self.results)

    @property
    def is_temperature_sent(self) -> bool:
        """Whether temperature and top-p have a say."""
        return self.service is None or self.service.send_temperature

    @property
    def sampling(self) -> Sampling | None:
        """None: greedily."""
        if self.temperature == 0 and self.is_temperature_sent:
            return None
        return Sampling(temperature=float(self.temperature), top_p=float(self.top_p), seed=self.seed)

    @property
    def key_temperature(self) -> float | Literal[0] | None:
        """As keys hold it."""
        if not self.is_temperature_sent:
            return None
        return 0 if self.sampling is None else self.sampling.temperature

    @property
    def key_top_p(self) -> float | None:
        """As keys hold it."""
        return None if self.sampling is None or not self.is_temperature_sent else self.sampling.top_p


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOutcome:
    """A record, where its text is, and whether it was there before."""

    record: TextRecord
    path: Path
    was_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectPlan:
    """What would be asked.

    Attributes:
        n_prompts: those included whose answers are known already.
        n_known: those.
        n_characters: of all prompts.
        estimate: of those that would be sent.
    """

    path: Path
    n_prompts: int
    n_known: int
    n_characters: int
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A sentence in two parts: what a model is given, and how people went on."""

    prompt: str
    continuation: str


def openings(sentences: Sequence[str], *, n_openings: int, seed: int = 0) -> tuple[Opening, ...]:
    """The first words of sentences drawn from every other one of a text, and what came after them.

    Candidates are the sentences at even places, the first among them, with at least `MIN_SENTENCE_WORDS` words; of
    those that begin alike the first one.

    Raises:
        UsageError: there are fewer candidates than asked for.
    """
    candidates: dict[str, Opening] = {}
    for sentence in sentences[::EVERY]:
        words = printable(sentence).split()
        if len(words) >= MIN_SENTENCE_WORDS:
            prompt, rest = (" ".join(part) for part in (words[:N_OPENING_WORDS], words[N_OPENING_WORDS:]))
            candidates.setdefault(prompt, Opening(prompt=prompt, continuation=rest))
    if not 1 <= n_openings <= len(candidates):
        raise UsageError(
            f"{n_openings} openings were asked for, and the text has {len(candidates)} distinct ones among every "
            f"other of its {len(sentences)} sentences ({MIN_SENTENCE_WORDS} words or more); choose another --n-prompts"
        )
    return tuple(random.Random(seed).sample(list(candidates.values()), n_openings))


def as_paragraphs(texts: Sequence[str]) -> bytes:
    """A text file: one paragraph each, an empty line between."""
    return "".join(f"{text}\n\n" for text in texts).removesuffix("\n").encode()


def paragraph(
    sample: TextSample, *, with_prompt: bool = False, first_sentence: bool = False, mode: Mode = "completion"
) -> str:
    """What the text keeps of an answer, on one line; empty where nothing is left.

    The last sentence of an answer that the limit on tokens cut off is left out, unless it ends like one; with
    `first_sentence` all but the first is, as `sentences_of` cuts the answer.
    """
    text, sentences = printable(sample.reply or ""), sentences_of(sample.reply or "")
    if first_sentence and len(sentences) > 1:
        first, second = map(printable, sentences[:2])
        text = text[: text.index(second, len(first))].rstrip()  # closing quotes are of neither sentence: they stay
    elif sample.finish_reason == "length" and text and not _ENDED.search(text):
        text = text.removesuffix(sentences_of(text)[-1]).rstrip()
    if not text or not with_prompt:
        return text
    is_apart = mode == "chat" or sample.prompt[-1:].isspace() or (sample.reply or "")[:1].isspace()
    return printable(sample.prompt) + (" " if is_apart else "") + text


def collect(request: CollectRequest, progress: Progress) -> CollectOutcome:
    """Ask for every continuation that is not known yet, and write the text, its samples and its record.

    A prompt that fails is counted as failed, and asked again when the same is collected again.

    Raises:
        UsageError: the request cannot be met; or the files that would be written are there and hold something else.
        BudgetReached, ServiceError: a cap was reached, or the server answers nothing; the text of the replies so far
            is written then.
    """
    _check(request)
    start = Start.now()
    target = find_target(request.model, request.revision, request.service, progress)
    target.check_without_key("one of the prompts", "\n".join(request.prompts))
    path, key = _path(request, target), _key(request, target)
    found = _found(path, key)
    if found is not None and found.is_complete:
        return CollectOutcome(record=_relicensed(path, found, request.licence), path=path, was_there=True)
    _check_writable(path)
    began = time.perf_counter()
    answers: dict[int, Reply | Failure] = {}
    ended: BudgetReached | ServiceError | None = None
    progress.plan(len(request.prompts))
    with Asking(
        target, request.service, progress, cache=request.cache_path, dtype=request.dtype, device=request.device
    ) as asking:
        try:
            for index, answer in asking.ask(_requests(request), lambda ask: _reply_key(request, target, ask)):
                answers[index] = answer
                progress.block(target.model)
        except (BudgetReached, ServiceError) as error:
            if not any(isinstance(answer, Reply) for answer in answers.values()):
                raise
            ended = error
    samples = [_sample(prompt, answers.get(index)) for index, prompt in enumerate(request.prompts)]
    text = as_paragraphs(_paragraphs(request, samples))
    record = _record(request, key, samples, text, info=asking.info, start=start, seconds=time.perf_counter() - began)
    _write(path, record, samples, text)
    if ended is not None:
        raise type(ended)(
            f"{ended}. {path} holds the text of {record.n_answered} of {key.n_prompts} prompts"
        ) from ended
    return CollectOutcome(record=record, path=path, was_there=False)


def dry_run(request: CollectRequest, progress: Progress) -> CollectPlan:
    """What `collect` would ask and cost about; nothing is sent or written and no weights are loaded.

    Raises:
        UsageError: the request cannot be met.
    """
    _check(request)
    target = find_target(request.model, request.revision, request.service, progress, is_dry=True)
    path, wanted = _path(request, target), _requests(request)
    found = _found(path, _key(request, target))
    if found is not None and found.is_complete:
        wanted = []
    elif request.cache_path.exists():
        with ReplyCache(request.cache_path, on_damage=progress.stage) as cache:
            wanted = [ask for ask in wanted if cache.get(_reply_key(request, target, ask)) is None]
    budget = request.service.budget if request.service else Budget()
    return CollectPlan(
        path=path,
        n_prompts=len(request.prompts),
        n_known=len(request.prompts) - len(wanted),
        n_characters=sum(map(len, request.prompts)),
        estimate=budget.estimate(wanted),
    )


def _check(request: CollectRequest) -> None:
    check_name(request.model)
    if request.mode not in MODES:
        raise UsageError(f"unknown mode {request.mode!r}; expected one of {', '.join(MODES)}")
    if not request.prompts or len(set(request.prompts)) < len(request.prompts):
        raise UsageError("expected prompts, at least one and each once; see bench.prompt_files.read_prompts")
    if not 1 <= request.max_tokens <= MAX_TOKENS:
        raise UsageError(f"--max-tokens must be from 1 to {MAX_TOKENS}, got {request.max_tokens}")
    if request.temperature != 0 and not MIN_TEMPERATURE <= request.temperature <= MAX_TEMPERATURE:
        raise UsageError(
            f"--temperature must be 0, for the most probable token each time, or from {MIN_TEMPERATURE} to "
            f"{MAX_TEMPERATURE:g}, got {request.temperature}"
        )
    if not 0 < request.top_p <= 1:
        raise UsageError(f"--top-p must be above 0 and at most 1, got {request.top_p}")
    if request.temperature == 0 and request.top_p < 1:
        raise UsageError("--top-p has no say at --temperature 0, where nothing is drawn; leave one of them out")
    if not request.is_temperature_sent and (request.temperature, request.top_p) != (1, 1):
        raise UsageError("--no-temperature sends neither of --temperature and --top-p; leave those out, or it")
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2**63 - 1, got {request.seed}")
    if not request.licence.strip() or not request.licence.isprintable() or len(request.licence) > 300:
        raise UsageError('--licence must be one line of text, such as "CC0-1.0"; leave it out where you do not know')
    if request.out is not None and request.out.suffix != ".txt":
        raise UsageError(f"--out must be a name that ends in .txt, got {printable(str(request.out))[-200:]!r}")


def _path(request: CollectRequest, target: Target) -> Path:
    return request.out or request.results / "texts" / f"{slug(target.model)}.txt"


def _record_path(text: Path) -> Path:
    return text.with_suffix(".json")


def _key(request: CollectRequest, target: Target) -> TextKey:
    return TextKey(
        schema_version=TEXT_SCHEMA,
        provider=target.provider,
        model=target.model,
        base_url=target.base_url,
        revision=target.revision,
        files_sha256=target.files_sha256,
        dtype=request.dtype if target.identity else None,
        mode=request.mode,
        prompts_sha256=sha256(json.dumps(request.prompts).encode()),
        n_prompts=len(request.prompts),
        with_prompts=request.with_prompts,
        first_sentence=request.first_sentence,
        max_tokens=request.max_tokens,
        temperature=request.key_temperature,
        top_p=request.key_top_p,
        token_limit_parameter=unusual_token_limit(request.service, request.mode),
        seed=None if request.sampling is None else request.seed,
    )


def _reply_key(request: CollectRequest, target: Target, ask: Request) -> ReplyKey:
    """A prompt stands for itself, whatever file it is from: a longer file asks what is new in it."""
    return ReplyKey(
        provider=target.provider,
        base_url=target.base_url,
        model=target.model,
        revision=target.revision,
        files_sha256=target.files_sha256,
        precision=target.precision,
        dtype=request.dtype if target.identity else None,
        mode=ask.mode,
        prompt=ask.prompt,
        max_tokens=ask.max_tokens,
        stop=ask.stop,
        temperature=request.key_temperature,
        top_p=request.key_top_p,
        token_limit_parameter=unusual_token_limit(request.service, request.mode),
        task="collect",
        task_version=1,
        task_hash="none",
        seed=0 if ask.sampling is None else ask.sampling.seed,
    )


def _requests(request: CollectRequest) -> list[Request]:
    return [
        Request(prompt=prompt, mode=request.mode, max_tokens=request.max_tokens, sampling=request.sampling)
        for prompt in request.prompts
    ]


def _found(path: Path, key: TextKey) -> TextRecord | None:
    """The record of this key with its text and samples as they were written, or None where they are to be written.

    Raises:
        UsageError: something else is there, which is not overwritten.
    """
    if not path.parent.is_dir():
        return None
    files = (path, samples_path(path), _record_path(path))
    remedy = "choose another --out, or move it away"
    try:
        record = read_row(_record_path(path), TextRecord)
    except FileNotFoundError:
        for file in files:
            if file.exists():
                raise UsageError(f"{file} is there, and no record of a collection beside it; {remedy}") from None
        return None
    except RecordError as error:
        raise UsageError(f"{error}; it is not overwritten: {remedy}") from error
    if record.key != key:
        differing = [name for name in TextKey.model_fields if getattr(record.key, name) != getattr(key, name)]
        raise UsageError(f"{path} is of another collection (other {', '.join(differing)}); {remedy}")
    found = [sha256_of(file) if file.is_file() else None for file in files[:2]]
    are_whole = found == [record.text_sha256, record.samples_sha256]
    return record if are_whole else None


def _relicensed(path: Path, record: TextRecord, licence: str) -> TextRecord:
    if record.licence == licence:
        return record
    record = record.model_copy(update={"licence": licence})
    write_whole(_record_path(path), _as_json(record))
    return record


def _check_writable(path: Path) -> None:
    """Raises StorageError: nothing can be written beside the text; better told before anything is paid for."""
    probe = path.with_name(".writable")
    write_whole(probe, b"")
    probe.unlink(missing_ok=True)


def _write(path: Path, record: TextRecord, samples: Sequence[TextSample], text: bytes) -> None:
    """The record first: it says whose the other two are, so that after a kill in between they may be written again."""
    write_whole(_record_path(path), _as_json(record))
    write_whole(samples_path(path), _as_lines(samples))
    write_whole(path, text)


def _as_json(record: TextRecord) -> bytes:
    return record.model_dump_json(indent=1).encode() + b"\n"


def _as_lines(samples: Sequence[TextSample]) -> bytes:
    return b"".join(sample.model_dump_json(exclude_none=True).encode() + b"\n" for sample in samples)


def _sample(prompt: str, answer: Reply | Failure | None) -> TextSample:
    if answer is None:
        return TextSample(prompt=prompt)
    if isinstance(answer, Failure):
        failure = FailedReply(kind=answer.kind, message=answer.message, n_attempts=answer.n_attempts)
        return TextSample(prompt=prompt, failure=failure)
    return TextSample(
        prompt=prompt,
        reply=answer.text,
        finish_reason=answer.finish_reason,
        returned_model=answer.returned_model,
        n_prompt_tokens=answer.n_prompt_tokens,
        n_completion_tokens=answer.n_completion_tokens,
    )


def _paragraphs(request: CollectRequest, samples: Sequence[TextSample]) -> list[str]:
    texts = (
        paragraph(sample, with_prompt=request.with_prompts, first_sentence=request.first_sentence, mode=request.mode)
        for sample in samples
    )
    return [text for text in texts if text]


def _record(
    request: CollectRequest,
    key: TextKey,
    samples: Sequence[TextSample],
    text: bytes,
    *,
    info: ModelInfo | None,
    start: Start,
    seconds: float,
) -> TextRecord:
    answered = [sample for sample in samples if sample.reply is not None]
    n_failed = sum(sample.failure is not None for sample in samples)
    paragraphs = _paragraphs(request, samples)
    return TextRecord(
        schema_version=TEXT_SCHEMA,
        key=key,
        model=info,
        returned_models=tuple(sorted({sample.returned_model for sample in answered if sample.returned_model})),
        text_sha256=sha256(text),
        samples_sha256=sha256(_as_lines(samples)),
        n_answered=len(answered),
        n_failed=n_failed,
        n_not_asked=len(samples) - len(answered) - n_failed,
        n_cut_off=sum(sample.finish_reason == "length" for sample in answered),
        n_paragraphs=len(paragraphs),
        n_words=sum(len(one.split()) for one in paragraphs),
        n_sentences=sum(len(sentences_of(one)) for one in paragraphs),
        n_prompt_tokens=total_tokens([sample.n_prompt_tokens for sample in answered]),
        n_completion_tokens=total_tokens([sample.n_completion_tokens for sample in answered]),
        licence=request.licence,
        provenance=provenance(
            start,
            command=_equivalent_command(request, key),
            device=request.device if info else "api",
            seconds=seconds,
        ),
    )


def _equivalent_command(request: CollectRequest, key: TextKey) -> str:
    """The command that collects the same, where prompts and model go by the same names."""
    command = ["bench", "collect", key.model, "--prompts", request.prompts_name, "--n-prompts", str(key.n_prompts)]
    command += ["--mode", key.mode, "--max-tokens", str(key.max_tokens)]
    if key.temperature is None:
        command += ["--no-temperature", "--seed", str(key.seed)]
    else:
        command += ["--temperature", str(key.temperature)]
        command += [] if key.top_p is None else ["--top-p", str(key.top_p), "--seed", str(key.seed)]
    command += ["--with-prompts"] if key.with_prompts else []
    command += ["--first-sentence"] if key.first_sentence else []
    if key.token_limit_parameter is not None:
        command += ["--token-limit-parameter", key.token_limit_parameter]
    command += [] if key.dtype in (None, "float32") else ["--dtype", str(key.dtype)]
    if key.revision is not None and not key.revision.startswith("sha256:"):
        command += ["--revision", source_revision(key.revision)]
    if request.service is not None and key.base_url is not None:
        command += ["--base-url", key.base_url]
        variable = request.service.key_variable
        command += [] if variable is None else ["--api-key-env", variable]
    return shlex.join(command)
