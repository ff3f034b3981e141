"""Who answers, a model that is loaded here or one behind a service, and the file that keeps what was answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from bench.api.address import checked_base_url
from bench.api.budget import Budget
from bench.api.cache import ReplyCache
from bench.api.cached import CachedCompleter, keeper, look_up
from bench.api.keys import ReplyKey
from bench.api.redaction import Redactor, holds
from bench.api.retry import Limits
from bench.api.secret import Secret, read_key
from bench.catalog import quoted, resolve
from bench.completions import Completer, Failure, Mode, Reply, Request
from bench.errors import ModelError, UsageError
from bench.progress import Progress
from bench.records import ModelInfo
from bench.sources import ModelEntry, pinned
from bench.store import check_inside

if TYPE_CHECKING:
    from bench.models import WeightsIdentity

_REPLIES_FILE = ".replies/replies.sqlite"
"""Where a results folder keeps the replies."""

Dtype = Literal["float32", "bfloat16"]

_NO_KEY_YET = Secret("stands for a key in a dry run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A model behind an OpenAI-compatible interface.

    Attributes:
        base_url: up to and including the version, "https://api.openai.com/v1"; None for that one.
        key_variable: the environment variable with the key; None where no key is needed.
        token_limit_parameter: what the server calls the limit on an answer.
        send_temperature: some models refuse a temperature, even 0; their answers may differ from run to run.
    """

    base_url: str | None = None
    key_variable: str | None = None
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    token_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    send_temperature: bool = True


def unusual_token_limit(service: Service | None, mode: Mode) -> Literal["max_completion_tokens"] | None:
    """What a chat service wants the limit on an answer called, where not max_tokens."""
    if service is None or mode != "chat" or service.token_limit_parameter == "max_tokens":
        return None
    return service.token_limit_parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is asked; `model` is the name under which answers are kept."""

    provider: Literal["local", "api"]
    model: str
    base_url: str | None = None
    key: Secret | None = None
    entry: ModelEntry | None = None
    identity: WeightsIdentity | None = None

    @property
    def revision(self) -> str | None:
        """Of the weights, where they are here."""
        return self.identity.revision if self.identity else None

    @property
    def files_sha256(self) -> str | None:
        """Of configuration, tokenizer and weights, where they are here."""
        return self.identity.files_sha256 if self.identity else None

    @property
    def precision(self) -> str | None:
        """Of the stored weights, where they are here."""
        return self.entry.precision if self.entry else None

    def check_without_key(self, what: str, text: str) -> None:
        """See that the key is not in what is to be sent and recorded.

        Raises:
            UsageError: it is; the message names `what`.
        """
        if self.key is not None and holds(text, self.key):
            raise UsageError(
                f"{Redactor([self.key])(what)} holds the key, which belongs into an environment variable alone; "
                "take it out there"
            )


def find_target(
    model: str,
    revision: str | None,
    service: Service | None,
    progress: Progress,
    *,
    is_dry: bool = False,
    known: Mapping[str, WeightsIdentity] = MappingProxyType({}),
) -> Target:
    """Find the model and the key, which a dry run does not need; nothing is loaded or sent.

    Args:
        known: identities by the names of models that are here, which saves reading their weights once more.

    Raises:
        UsageError: there is no such model here, or the address cannot be used.
    """
    if service is not None:
        variable = service.key_variable
        key = None if variable is None else _NO_KEY_YET if is_dry else read_key(variable)
        target = Target(provider="api", model=model, base_url=checked_base_url(service.base_url, key), key=key)
        target.check_without_key("the name of the model", model)
        return target
    from bench.models import identify

    try:
        entry = resolve(model, revision)
    except ModelError as error:
        raise ModelError(f"{error}; for a model behind an interface give --base-url or --api-key-env") from error
    identity = known.get(entry.name) or identify(entry, progress.stage)
    return Target(provider="local", model=entry.name, entry=pinned(entry, identity.revision), identity=identity)


def check_name(model: str) -> None:
    """Refuse what no model is called.

    Raises:
        ModelError: it is empty, too long, or not printable.
    """
    if not model.strip() or not model.isprintable() or len(model) > 300:
        raise ModelError(f"{quoted(model)} cannot be the name of a model")


def replies_file(chosen: Path | None, results: Path) -> Path:
    """The file with the replies: the one that was chosen, else that of the results folder.

    Raises:
        StorageError: a link leads out of the results folder there.
    """
    if chosen is not None:
        return chosen
    path = results / _REPLIES_FILE
    check_inside(results, path, path)
    return path


class Asking:
    """A model that is ready to be asked. A context manager: leaving it closes the cache.

    Attributes:
        info: of a model that is loaded here.
    """

    def __init__(
        self, target: Target, service: Service | None, progress: Progress, *, cache: Path, dtype: Dtype, device: str
    ) -> None:
        """Load the model or prepare the client, and open the cache."""
        self._target, self._progress = target, progress
        self._key_of: Callable[[Request], ReplyKey] | None = None
        self.info: ModelInfo | None = None
        redact = Redactor(() if target.key is None else (target.key,))
        self._cache = ReplyCache(cache, redact=redact, on_damage=progress.stage)
        try:
            self._completer = self._local(dtype, device) if service is None else self._remote(service)
        except BaseException:
            self._cache.close()
            raise

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *ending: object) -> None:
        if self._cache.n_damaged:
            self._progress.stage(
                f"{self._cache.n_damaged} answers in {self._cache.path} are damaged and were not used, but asked again"
            )
        self._cache.close()

    def ask(
        self, requests: Sequence[Request], key_of: Callable[[Request], ReplyKey]
    ) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Completer.complete`; what the cache holds under its key is not asked."""
        self._key_of = key_of
        return CachedCompleter(self._completer, self._cache, key_of).complete(requests)

    def _present_key(self, request: Request) -> ReplyKey:
        assert self._key_of is not None
        return self._key_of(request)

    def _remote(self, service: Service) -> Completer:
        from bench.api.client import ApiCompleter

        return ApiCompleter(
            model=self._target.model,
            base_url=service.base_url,
            key=self._target.key,
            limits=service.limits,
            budget=service.budget,
            on_wait=self._progress.stage,
            look_again=look_up(self._cache, self._present_key),
            keep=keeper(self._cache, self._present_key),
            token_limit_parameter=service.token_limit_parameter,
            send_temperature=service.send_temperature,
        )

    def _local(self, dtype: Dtype, device: str) -> Completer:
        from bench.generation import LocalCompleter
        from bench.models import load, model_info

        target, tell = self._target, self._progress.stage
        assert target.entry is not None
        tell(f"{target.entry.name}: loading")
        loaded = load(target.entry, dtype=dtype, device=device, progress=tell, expected=target.identity)
        self.info = model_info(loaded)
        return LocalCompleter(loaded, progress=tell)
