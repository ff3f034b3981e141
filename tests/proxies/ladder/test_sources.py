"""Packages from an archive and an index on a loopback socket: the right file, the wrong one, and none."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.errors import ModelError
from proxies.ladder import sources
from proxies.ladder.sources import Source, download

ROOT = Path(__file__).resolve().parents[3]
CONTENT = b"a package" * 1000
PLACE = "pool/main/t/tiny/tiny_1_all.deb"


class Archive(ThreadingHTTPServer):
    """Serves files by path, some of them in odd ways, and notes what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.manner = "whole"
        self.asked: list[str] = []
        self.half_is_sent = threading.Event()
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        archive = self.server
        archive.asked.append(self.path)
        if archive.manner == "garbage":
            self.wfile.write(b"what?\r\n\r\n")
            return
        content = archive.files.get(self.path.rstrip("/"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if archive.manner == "whole":
            self.wfile.write(content)
            return
        self.wfile.write(content[: len(content) // 2])
        archive.half_is_sent.set()
        if archive.manner == "hanging":
            archive.release.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    with Archive() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(sources, "DEBIAN", f"{address}/debian/")
        monkeypatch.setattr(sources, "DEBIAN_SNAPSHOT", f"{address}/snapshot/")
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_RETRIES", "0")
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def source(place: str = PLACE, content: bytes = CONTENT) -> Source:
    return Source(
        name="tiny",
        place=place,
        sha256=hashlib.sha256(content).hexdigest(),
        licence="public domain",
        title="Tiny",
        read=lambda package: iter(()),
    )


def quiet(line: str) -> None:
    """Progress that nobody reads."""


def test_a_package_is_downloaded_once(archive: Archive, tmp_path: Path) -> None:
    archive.files[f"/debian/{PLACE}"] = CONTENT
    lines: list[str] = []
    path = download(source(), tmp_path / "packages", lines.append)
    assert path == tmp_path / "packages" / "tiny_1_all.deb"
    assert path.read_bytes() == CONTENT
    assert download(source(), tmp_path / "packages", lines.append) == path
    assert lines == ["downloading tiny"]
    assert archive.asked == [f"/debian/{PLACE}"]
    assert list(path.parent.iterdir()) == [path]


def test_a_package_put_there_by_hand_needs_no_archive(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "tiny_1_all.deb").write_bytes(CONTENT)
    assert download(source(), tmp_path, quiet).read_bytes() == CONTENT
    assert archive.asked == []


def test_a_damaged_package_is_downloaded_again(archive: Archive, tmp_path: Path) -> None:
    archive.files[f"/debian/{PLACE}"] = CONTENT
    (tmp_path / "tiny_1_all.deb").write_bytes(CONTENT[:-1])
    assert download(source(), tmp_path, quiet).read_bytes() == CONTENT


def test_what_the_mirror_no_longer_has_comes_from_the_snapshot(archive: Archive, tmp_path: Path) -> None:
    archive.files[f"/snapshot/{PLACE}"] = CONTENT
    assert download(source(), tmp_path, quiet).read_bytes() == CONTENT
    assert archive.asked == [f"/debian/{PLACE}", f"/snapshot/{PLACE}"]


@pytest.mark.parametrize("manner", ["whole", "garbage"])  # not found, and an answer that is no HTTP
def test_a_package_that_cannot_be_had_says_where_to_put_it(archive: Archive, tmp_path: Path, manner: str) -> None:
    archive.manner = manner
    with pytest.raises(ModelError) as caught:
        download(source(), tmp_path, quiet)
    message = str(caught.value)
    assert message.startswith(f"cannot download {PLACE} (http://127.0.0.1:{archive.server_port}/snapshot/: ")
    assert ("HTTP Error 404" in message) == (manner == "whole")
    assert message.endswith(
        f"get this version of the package tiny elsewhere and put it at {tmp_path / 'tiny_1_all.deb'}"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("manner", "served"), [("whole", b"another package"), ("cut off", CONTENT)])
def test_wrong_bytes_are_refused_with_both_hashes(archive: Archive, tmp_path: Path, manner: str, served: bytes) -> None:
    archive.files[f"/debian/{PLACE}"] = served
    archive.manner = manner
    came = hashlib.sha256(served if manner == "whole" else CONTENT[: len(CONTENT) // 2]).hexdigest()
    with pytest.raises(ModelError) as caught:
        download(source(), tmp_path, quiet)
    assert str(caught.value) == (
        f"tiny_1_all.deb has sha256 {came[:12]}..., expected {source().sha256[:12]}...; "
        f"the download was damaged or the archive serves something else"
    )
    assert list(tmp_path.iterdir()) == []


def test_wrong_bytes_do_not_replace_what_is_there(archive: Archive, tmp_path: Path) -> None:
    archive.files[f"/debian/{PLACE}"] = b"another package"
    (tmp_path / "tiny_1_all.deb").write_bytes(b"an older version")
    with pytest.raises(ModelError):
        download(source(), tmp_path, quiet)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older version"]


def test_an_interrupted_download_leaves_nothing_behind(archive: Archive, tmp_path: Path) -> None:
    archive.files[f"/debian/{PLACE}"] = CONTENT
    archive.manner = "hanging"
    code = f"""
import signal
from pathlib import Path
from proxies.ladder import sources
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background is born deaf to it
sources.DEBIAN = {sources.DEBIAN!r}
one = sources.Source("tiny", {PLACE!r}, "0" * 64, "public domain", "Tiny", iter)
sources.download(one, Path({str(tmp_path)!r}))
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert archive.half_is_sent.wait(30)
    assert [path.name.startswith(".partial-") for path in tmp_path.iterdir()] == [True]
    child.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in child.communicate(timeout=30)[1]
    assert list(tmp_path.iterdir()) == []


def wheel() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole:
        whole.writestr("tiny_text-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-text\nVersion: 1.0\n")
        whole.writestr(
            "tiny_text-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        whole.writestr("tiny_text-1.0.dist-info/RECORD", "")
    return file.getvalue()


def test_a_wheel_comes_from_the_package_index(archive: Archive, tmp_path: Path) -> None:
    content, name = wheel(), "tiny_text-1.0-py3-none-any.whl"
    archive.files["/simple/tiny-text"] = f'<html><body><a href="/files/{name}">{name}</a></body></html>'.encode()
    archive.files[f"/files/{name}"] = content
    path = download(source("tiny-text==1.0", content), tmp_path, quiet)
    assert (path.name, path.read_bytes()) == (name, content)
    assert list(tmp_path.iterdir()) == [path]


def test_a_wheel_that_cannot_be_had_says_so(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        download(source("tiny-text==1.0"), tmp_path, quiet)
    message = str(caught.value)
    assert message.startswith("pip could not download tiny-text==1.0: ERROR: No matching distribution found")
    assert message.endswith(f"put it at {tmp_path / 'tiny_text-1.0-py3-none-any.whl'}")
    assert list(tmp_path.iterdir()) == []
