"""Performance records -> report and picture."""

from __future__ import annotations

import random
import re
from pathlib import Path

from bench.performance import Sample
from bench.store import Store, StoredPerformance
from proxies.performance import PICTURE, by_subject, cells_of, current, report
from proxies.performance_files import write_performance_report
from proxies.performance_picture import picture
from tasks import shipped_version
from tests.performance_factory import make_performance


def stored(**changes: object) -> StoredPerformance:
    record = make_performance(**changes)  # type: ignore[arg-type]
    name = f"{record.key.task}.{record.key.mode}.{record.key.digest()[:8]}.json"
    return StoredPerformance(path=f"performance/{record.key.model}/{name}", record=record)


SOME = [
    stored(task="country"),
    stored(task="antonym", shots=(0, 4), correct=(1, 50)),
    stored(task="country", mode="chat", correct=(2, 3)),
    stored(task="country", model="small-1", correct=(20, 40), n_failed=30),
]


def test_each_model_and_mode_has_a_table_and_no_two_modes_share_one() -> None:
    text = report(SOME, ())
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["big-1, chat", "big-1, completion", "small-1, completion"]
    assert "| antonym | 0.01 (0.00 to 0.05) | - | 0.50 (0.40 to 0.60) |" in text
    assert "| country | - | 0.30 (0.22 to 0.40) | 0.80 (0.71 to 0.87) |" in text
    assert "Asked at https&#58;&#47;/api.example/v1, which says it is big-1-2026." in text
    (line,) = [line for line in text.splitlines() if line.startswith("| country") and "| 60 |" in line]
    assert "0.29 (0.19 to 0.40)" in line  # 20 of the 70 that were answered, and twice 30 failed


def test_the_order_of_the_records_changes_no_byte() -> None:
    shuffled = random.Random(0).sample(SOME, len(SOME))
    assert report(shuffled, ()) == report(SOME, ())
    assert picture(shuffled) == picture(SOME)


def test_a_later_record_adds_its_shots_and_an_older_version_of_a_task_is_left_out() -> None:
    later = stored(shots=(2,), correct=(60,))
    old = stored(task_version=0, shots=(8,), correct=(99,))
    (tasks,) = by_subject([stored(), later, old]).values()
    assert {n_shots: cell.accuracy for n_shots, cell in cells_of(tasks["country"]).items()} == {1: 0.3, 4: 0.8, 2: 0.6}


def test_a_record_that_names_a_newer_version_than_the_shipped_one_hides_no_answers() -> None:
    version, content = shipped_version("country") or (0, "")
    genuine = stored(task_version=version, task_hash=content)
    newer = stored(task_version=version + 999, shots=(1,), correct=(99,))
    assert current([genuine, newer]) == current([newer, genuine]) == [genuine]
    assert current([stored(task_version=1), newer]) == [newer], "of two that are not shipped the newer"
    of_their_own = [stored(task="mine", task_version=number) for number in (1, 2)]
    assert current(of_their_own) == of_their_own[1:]


def test_names_from_data_are_inert() -> None:
    nasty = "a|b\n# <script>alert(1)</script> [x](javascript:y) `c`"
    text = report([stored(model=nasty, task="t|u")], ())
    assert "<script" not in text and "](javascript" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert b"<script" not in picture([stored(model=nasty, task="t|u<script>")])


def test_the_picture_says_in_words_what_it_shows() -> None:
    svg = picture(SOME).decode()
    assert "<desc>" in svg and "country, big-1, completion: 0.30 at 1 shots, 0.80 at 4 shots." in svg
    assert "Nothing was asked." in picture([]).decode()


def test_derived_models_are_in_the_tables_and_not_in_the_picture() -> None:
    more = [*SOME, stored(model="small-1@int4")]
    assert picture(more) == picture(SOME)
    assert "## small-1@int4, completion" in report(more, ()).replace("&#64;", "@")


def test_report_and_picture_lie_beside_the_records_and_name_broken_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sample = Sample(task="country", n_shots=1, index=0, prompt="p", reply="r")
    store.write_performance(make_performance(), [sample])
    (tmp_path / "performance" / "big-1" / "broken.json").write_text("{}")
    text, image = (path.read_bytes() for path in write_performance_report(store))
    assert b"broken.json" in text and f"]({PICTURE})".encode() in text and image.startswith(b"<?xml")
