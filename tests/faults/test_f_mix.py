"""A mix of faults over thousands of questions: all are answered, and the scores are those of a run without faults."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.api.retry import Limits
from bench.query import QueryRequest, query, unanswered_samples
from tests.bench.querying import request, right_answer, samples_of, service
from tests.bench.scripted_server import ScriptedServer, no_faults, share
from tests.bench.told import Told
from tests.faults.asked_once import check_none_asked_again
from tests.faults.ledger import IS_FULL, NOT_IN_THE_SLICE, SEED, Cases

MIX = {
    "429-zero": 0.10,
    "500": 0.05,
    "reset": 0.02,
    "truncated": 0.02,
    "truncated-json": 0.02,
    "html": 0.02,
    "hang": 0.01,
    "drip": 0.01,
}
TASKS = ("antonym", "element-symbol", "animal-young", "number-successor")
"""With 5 numbers of shots and 100 questions each, 2,000 questions."""

LIMITS = Limits(
    max_attempts=12,
    attempt_seconds=3.0,
    total_seconds=60.0,
    max_concurrency=16,
    backoff_seconds=0.05,
    max_backoff_seconds=1.0,
)
"""Deadlines are short, but no answer is late on a busy machine, and no wait is asked for."""


def half_right(asked: QueryRequest) -> dict[str, str]:
    """Answers by prompt, right for about half of them."""
    return {
        sample.prompt: right_answer(sample.task, sample.prompt)
        if zlib.crc32(sample.prompt.encode()) % 2
        else " nonsense"
        for sample in unanswered_samples(asked)
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", [pytest.param(0, marks=NOT_IN_THE_SLICE), 1, pytest.param(2, marks=NOT_IN_THE_SLICE)])
def test_a_mix_of_faults_loses_nothing_and_changes_no_score(cases: Cases, tmp_path: Path, part: int) -> None:
    seed = 3 * SEED + part
    asked = request(
        tmp_path,
        *TASKS,
        shots=(0, 1, 2, 4, 8) if IS_FULL else (2,),
        n_questions=cases.n(quick=15, full=100),
        seed=seed,
    )
    answers = half_right(asked)
    with ScriptedServer(answer=answers.__getitem__, faults=share(MIX, seed=seed)) as server:
        prompts = [sample.prompt for sample in unanswered_samples(asked)]
        n = len(prompts)
        with cases.case(f"seed {seed}", n=n):
            began = time.monotonic()
            rough = list(query(replace(asked, out=tmp_path / "rough", service=service(server, limits=LIMITS)), Told()))
            assert time.monotonic() - began < 30 + n / 5
            assert len(server.received) <= 1.5 * n + (0 if IS_FULL else 20)  # a third more is to be expected
            if IS_FULL:
                assert n == 2000 and {one.did for one in server.received} == {*MIX, "answer"}
            check_none_asked_again(server, prompts)
            did = Counter(one.did for one in server.received)
            cases.measure(
                f"seed {seed}: {n:,} questions, {did.total():,} requests, of which {did.pop('answer'):,} answered, "
                + ", ".join(f"{name} {did[name]:,}" for name in MIX)
            )
            server.faults = no_faults
            calm = list(query(replace(asked, out=tmp_path / "calm", service=service(server, limits=LIMITS)), Told()))
            assert [one.record.cells for one in rough] == [one.record.cells for one in calm]
            assert [samples_of(one) for one in rough] == [samples_of(one) for one in calm]
            cells = [cell for one in rough for cell in one.record.cells]
            assert sum(cell.n_answered for cell in cells) == n and not any(cell.n_failed for cell in cells)
            assert 0 < sum(cell.n_correct for cell in cells) < n
