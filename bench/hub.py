"""Snapshots of hub repositories: from the hub's own cache where possible, and never a long wait for the hub."""

from __future__ import annotations

import threading
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from bench.cache import Tell
from bench.catalog import names_without_hub, quoted
from bench.errors import ModelError
from bench.sources import HubSource
from bench.weights import has_weights, tokenizer_files

# The hub has more than is needed: other formats, pickles and code, none of which are ever read here.
CONFIGURATION_PATTERNS = ("config.json", "generation_config.json")
TOKENIZER_PATTERNS = (
    "tokenizer*.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
WEIGHT_PATTERNS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")

ANSWER_DEADLINE_SECONDS = 8.0  # name look-up, connection and first answer together


def fetch_from_hub(source: HubSource, progress: Tell, *, with_weights: bool) -> Path:
    """The local folder of a snapshot; its last path component is the commit.

    A commit that is in the hub's cache is used without asking. Otherwise the hub is asked once, with a deadline;
    without an answer (or offline) the cached state of the branch is used.

    Raises:
        ModelError: no such repository or revision, no access to it, or neither hub nor cache has it.
    """
    if cached := _cached(source, source.revision, with_weights=with_weights, is_commit_needed=True):
        return cached
    if constants.is_offline_mode():
        reason = "offline mode is on (HF_HUB_OFFLINE)"
    else:
        answer = _commit_on_hub(source)
        if isinstance(answer, str):
            return _download(source, answer, progress, with_weights=with_weights)
        reason = f"{constants.ENDPOINT} cannot be reached ({_first_line(answer)})"
    for revision in (source.revision, source.cached_revision):
        if revision and (cached := _cached(source, revision, with_weights=with_weights, is_commit_needed=False)):
            progress(f"{reason}; using the cached {cached.name[:12]} of {source.repo}")
            return cached
    raise ModelError(
        f"{_shown(source)} is not in the cache and {reason}; "
        f"without the hub there are {', '.join(names_without_hub())} and any local folder"
    )


def _cached(source: HubSource, revision: str, *, with_weights: bool, is_commit_needed: bool) -> Path | None:
    """The snapshot as far as it is in the hub's cache, if it has all that is needed."""
    for repo in (source.repo, source.former_repo):
        if repo is None:
            continue
        try:
            wanted = _wanted(with_weights)
            folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=wanted))
        except (OSError, ValueError):  # not there, or only in part
            continue
        if is_commit_needed and folder.name != revision:
            continue
        is_complete = (folder / "config.json").is_file() and tokenizer_files(folder)
        if is_complete and (not with_weights or has_weights(folder)):
            return folder
    return None


def _commit_on_hub(source: HubSource) -> str | Exception:
    """The commit that the revision stands for, or why the hub did not tell within the deadline.

    A thread, because no timeout of the HTTP client covers the look-up of a host name.
    """
    answers: list[str | Exception] = []

    def ask() -> None:
        try:
            info = HfApi().model_info(source.repo, revision=source.revision, timeout=ANSWER_DEADLINE_SECONDS)
            answers.append(info.sha or source.revision)
        except Exception as error:  # whatever it is, it is told: HTTP libraries differ in what they raise
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_DEADLINE_SECONDS)
    answer = answers[0] if answers else TimeoutError(f"no answer in {ANSWER_DEADLINE_SECONDS:.0f} s")
    _raise_if_refused(source, answer)
    return answer


def _raise_if_refused(source: HubSource, answer: object) -> None:
    """Turn an answer that will not change by waiting or by using the cache into a ModelError."""
    repo = _shown(source)
    if isinstance(answer, GatedRepoError):
        raise ModelError(f"{repo} is gated: accept its terms on the hub and log in with `hf auth login`") from answer
    if isinstance(answer, RevisionNotFoundError):
        raise ModelError(f"{repo} has no revision {quoted(source.revision)} on the hub") from answer
    if isinstance(answer, RepositoryNotFoundError):
        raise ModelError(f"{repo} is not on the hub, or is private; check the name or `hf auth login`") from answer


def _download(source: HubSource, commit: str, progress: Tell, *, with_weights: bool) -> Path:
    progress(f"downloading {source.repo} at {commit[:12]} from the hub")
    try:
        folder = Path(snapshot_download(source.repo, revision=commit, allow_patterns=_wanted(with_weights)))
    except Exception as error:  # HTTP libraries differ in what they raise
        raise ModelError(f"the download of {_shown(source)} broke off ({_first_line(error)}); run it again") from error
    if with_weights and not has_weights(folder):
        raise ModelError(
            f"{_shown(source)} has no safetensors weights at {commit[:12]}, and no other kind is loaded; "
            f"convert a copy with save_pretrained() and give its folder"
        )
    return folder


def _shown(source: HubSource) -> str:
    return quoted(source.former_repo or source.repo)


def _wanted(with_weights: bool) -> list[str]:
    return [*CONFIGURATION_PATTERNS, *TOKENIZER_PATTERNS, *(WEIGHT_PATTERNS if with_weights else ())]


def _first_line(error: BaseException) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"HTTP status {error.response.status_code}"
    return (str(error).splitlines() or [""])[0] or type(error).__name__
