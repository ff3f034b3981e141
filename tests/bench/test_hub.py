"""The hub: unreachable, silent, offline with a cache, and a scripted one on a loopback socket."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from bench import hub
from bench.catalog import CATALOG, HubSource, names_without_hub, resolve
from bench.errors import ModelError
from bench.models import fetch, identify, load, load_tokenizer
from bench.sources import pinned
from tests.bench.tiny_models import N_LAYERS, save_tiny

GPT2_COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
OTHER_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")


def fill_cache(cache: Path, repo: str, commit: str) -> Path:
    """A snapshot as huggingface_hub lays it out: the repository's folder, the branch, the commit."""
    storage = cache / f"models--{repo.replace('/', '--')}"
    (storage / "refs").mkdir(parents=True)
    (storage / "refs" / "main").write_text(commit)
    snapshot = storage / "snapshots" / commit
    save_tiny(snapshot, "gpt2")
    return snapshot


@pytest.mark.usefixtures("hub_cache", "unreachable")
@pytest.mark.parametrize("name", ["gpt2", "someone/something"])
def test_an_unreachable_hub_fails_fast_and_says_what_works_without(name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        load(resolve(name))
    assert time.perf_counter() - started < 20
    message = str(caught.value)
    assert f"'{name}' is not in the cache and http://127.0.0.1:" in message
    assert "cannot be reached (" in message
    assert message.endswith(f"without the hub there are {', '.join(names_without_hub())} and any local folder")
    assert "\n" not in message


@pytest.mark.usefixtures("hub_cache")
def test_a_silent_hub_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection and never says a word, which no connection timeout notices."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(hub, "ANSWER_DEADLINE_SECONDS", 0.5)
        started = time.perf_counter()
        with pytest.raises(ModelError, match="cannot be reached"):
            load_tokenizer(resolve("gpt2"))
        assert time.perf_counter() - started < 20  # the machine may be busy


def test_the_wait_for_the_hub_is_within_ten_seconds() -> None:
    assert hub.ANSWER_DEADLINE_SECONDS <= 10


def test_offline_in_a_fresh_process_gpt2_comes_from_the_cache(tmp_path: Path) -> None:
    fill_cache(tmp_path, "gpt2", GPT2_COMMIT)
    code = (
        "from bench.catalog import resolve; from bench.models import load; m = load(resolve('gpt2')); "
        "print(m.revision, m.n_blocks)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([GPT2_COMMIT, str(N_LAYERS)], "")


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("repo", ["gpt2", "openai-community/gpt2"])
def test_a_pinned_commit_in_the_cache_needs_no_hub(hub_cache: Path, repo: str) -> None:
    snapshot = fill_cache(hub_cache, repo, GPT2_COMMIT)
    lines: list[str] = []
    assert fetch(resolve("gpt2"), lines.append) == snapshot
    assert lines == []


@pytest.mark.usefixtures("unreachable")
def test_without_the_hub_another_cached_commit_is_used_and_told(hub_cache: Path) -> None:
    fill_cache(hub_cache, "gpt2", OTHER_COMMIT)
    lines: list[str] = []
    assert load(resolve("gpt2"), progress=lines.append).revision == OTHER_COMMIT
    assert "using the cached 0123456789ab of" in lines[0]
    with pytest.raises(ModelError, match="not in the cache"):  # a revision asked for has no stand-in
        load(resolve("gpt2", GPT2_COMMIT))


@pytest.mark.usefixtures("unreachable")
def test_a_derived_model_is_that_of_a_commit(hub_cache: Path) -> None:
    snapshot = fill_cache(hub_cache, "gpt2", OTHER_COMMIT)
    entry = resolve("gpt2@int4")
    identity = identify(entry)
    assert identity.revision == f"{OTHER_COMMIT}@int4"
    now_pinned = pinned(entry, identity.revision)
    assert isinstance(now_pinned.source, HubSource) and now_pinned.source.revision == OTHER_COMMIT
    assert load(now_pinned, expected=identity).revision == identity.revision
    (snapshot / "model.safetensors").unlink()
    assert load(resolve("gpt2@untrained", OTHER_COMMIT)).revision == f"{OTHER_COMMIT}@untrained"


def test_offline_mode_without_a_cache_says_so(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"offline mode is on \(HF_HUB_OFFLINE\)"):
        load(resolve("gpt2"))


@pytest.mark.usefixtures("unreachable")
def test_half_a_snapshot_is_not_used(hub_cache: Path) -> None:
    snapshot = fill_cache(hub_cache, "gpt2", GPT2_COMMIT)
    (snapshot / "model.safetensors").unlink()
    load_tokenizer(resolve("gpt2"))  # all it needs is there
    with pytest.raises(ModelError, match="not in the cache"):
        load(resolve("gpt2"))


@pytest.mark.usefixtures("unreachable")
def test_a_damaged_blob_is_noticed_by_its_name(hub_cache: Path) -> None:
    snapshot = fill_cache(hub_cache, "gpt2", GPT2_COMMIT)
    weights = snapshot / "model.safetensors"
    data = bytearray(weights.read_bytes())
    blob = snapshot.parent.parent / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir()
    weights.unlink()
    weights.symlink_to(blob)
    blob.write_bytes(data)
    assert load(resolve("gpt2")).weights_sha256 == blob.name
    data[-8] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ModelError, match="model.safetensors is damaged"):
        load(resolve("gpt2"))


class ScriptedHub(ThreadingHTTPServer):
    """Serves one repository, `org/tiny`, the way the hub does, and notes what was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _HubHandler)


class _HubHandler(BaseHTTPRequestHandler):
    server: ScriptedHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        files = self.server.files
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith("/org/tiny/resolve/"):
            self.answer(files[path.rsplit("/", 1)[-1]], "application/octet-stream")
        elif path.startswith("/api/models/org/tiny/tree/"):
            tree = [{"type": "file", "path": n, "size": len(d), "oid": _git_hash(d)} for n, d in files.items()]
            self.answer(json.dumps(tree).encode())
        elif path.startswith("/api/models/org/tiny/revision/none"):
            self.answer(b"{}", status=404, code="RevisionNotFound")
        elif path.startswith("/api/models/org/tiny"):
            self.answer(json.dumps({"id": "org/tiny", "sha": OTHER_COMMIT}).encode())
        elif path.startswith("/api/models/org/gated"):
            self.answer(b"{}", status=403, code="GatedRepo")
        else:
            self.answer(b"{}", status=404, code="RepoNotFound")

    def answer(self, body: bytes, kind: str = "application/json", *, status: int = 200, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{_git_hash(body)}"')
        self.send_header("X-Repo-Commit", OTHER_COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def scripted_hub(tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedHub]:
    save_tiny(tmp_path / "published", "gpt2")
    files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "modeling_tiny.py": b"raise SystemExit", "README.md": b"# Tiny"}
    with ScriptedHub(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        template = f"{constants.ENDPOINT}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
        close_session()
        server.shutdown()
        thread.join()


def test_a_download_takes_safetensors_and_json_only(scripted_hub: ScriptedHub) -> None:
    lines: list[str] = []
    loaded = load(resolve("org/tiny"), progress=lines.append)
    assert (loaded.revision, loaded.n_blocks) == (OTHER_COMMIT, N_LAYERS)
    assert lines == ["downloading org/tiny at 0123456789ab from the hub"]
    fetched = {line.rsplit("/", 1)[-1] for line in scripted_hub.asked if "/resolve/" in line}
    assert "model.safetensors" in fetched
    assert all(name.endswith((".json", ".safetensors")) for name in fetched)


def test_a_tokenizer_is_downloaded_without_weights(scripted_hub: ScriptedHub) -> None:
    load_tokenizer(resolve("org/tiny"))
    assert not any("safetensors" in line for line in scripted_hub.asked)


def test_a_commit_once_downloaded_is_not_asked_for_again(scripted_hub: ScriptedHub) -> None:
    fetch(resolve("org/tiny", OTHER_COMMIT))
    n_asked = len(scripted_hub.asked)
    fetch(resolve("org/tiny", OTHER_COMMIT))
    assert len(scripted_hub.asked) == n_asked


def test_a_repository_without_safetensors_says_what_to_do(scripted_hub: ScriptedHub) -> None:
    del scripted_hub.files["model.safetensors"]
    with pytest.raises(ModelError, match="has no safetensors weights at 0123456789ab, .* convert a copy"):
        load(resolve("org/tiny"))


@pytest.mark.usefixtures("scripted_hub")
@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        ("org/absent", None, "'org/absent' is not on the hub, or is private"),
        ("org/gated", None, "'org/gated' is gated: accept its terms"),
        ("org/tiny", "none", "'org/tiny' has no revision 'none' on the hub"),
    ],
)
def test_a_refusal_of_the_hub_is_told_as_it_is(name: str, revision: str | None, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        load(resolve(name, revision))


def test_the_pin_of_gpt2_is_the_one_these_tests_use() -> None:
    source = CATALOG["gpt2"].source
    assert isinstance(source, HubSource)
    assert source.revision == GPT2_COMMIT
