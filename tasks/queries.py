"""Task -> the questions on which performance is measured, and what a right answer is.

The demonstrations of a question do not depend on how many shots are asked for: k shots show the first k of them. So the
same questions are compared over shots, and prompts share their beginnings.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.prompts import PromptError
from tasks.seeds import generator
from tasks.task import ListTask, PairTask

SCORING_VERSION = 1
"""Raised when the same reply would be scored otherwise, or the same request would give other questions."""

CHAT_INSTRUCTION = "Continue the pattern. Reply with only what comes next, without any explanation.\n\n"
"""What a chat model is told before the prompt; the same for every task, so that the task is still to be inferred."""

_STRIPPED = " \t\r\n.,;:!?\"'`*_()[]{}<>«»“”‘’„‚¡¿…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One prompt and what it asks for.

    Attributes:
        index: which question of the task; the same at every number of shots.
        shown: what the demonstrations show: names, or queries.
        subject: the query that is asked; None for a list, whose next item is asked.
        prompt: the text that a model continues.
    """

    index: int
    n_shots: int
    shown: tuple[str, ...]
    subject: str | None
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What an answer is worth.

    Attributes:
        answer: the first answer of the reply, as it was compared.
        is_repeat: of a list: whether the answer is a member that was in the prompt already; None for pairs.
    """

    answer: str
    is_correct: bool
    is_repeat: bool | None


def questions(task: ListTask | PairTask, *, n_shots: int, n_questions: int, seed: int) -> tuple[Question, ...]:
    """At most `n_questions` different prompts; fewer where the task has no more of them (0 shots, say).

    Pairs are asked in random order, all of them before one is asked again with other demonstrations.

    Raises:
        PromptError: the task has too few items for so many shots, or a list has nothing to go by.
    """
    n_items = len(task.names) if isinstance(task, ListTask) else len(task.pairs)
    least = 0 if isinstance(task, PairTask) else 1
    if n_questions < 1:
        raise PromptError(f"--n-queries must be at least 1, got {n_questions}")
    if n_shots < least:
        raise PromptError(
            f"task {task.name!r}: a list of {n_shots} items says nothing of its category; start at 1 shot"
        )
    if n_shots >= n_items:
        raise PromptError(
            f"task {task.name!r} has {n_items} items, too few for {n_shots} shots and a question; "
            f"ask for {n_items - 1} shots or fewer"
        )
    found: dict[str, Question] = {}
    for index in range(20 * n_questions):  # more tries than that only where there are no more different prompts
        one = question(task, index=index, n_shots=n_shots, seed=seed)
        found.setdefault(one.prompt, one)
        if len(found) == n_questions:
            break
    return tuple(found.values())


def question(task: ListTask | PairTask, *, index: int, n_shots: int, seed: int) -> Question:
    """Question `index` of a task."""
    rng = generator(seed, "demonstrations", task.name, index)
    if isinstance(task, ListTask):
        names = tuple(task.names[place] for place in rng.permutation(len(task.names))[:n_shots])
        prompt = "".join(map(task.demonstration, names))
        return Question(index=index, n_shots=n_shots, shown=names, subject=None, prompt=prompt)
    n_pairs = len(task.pairs)
    turn, place = divmod(index, n_pairs)
    subject = int(generator(seed, "subjects", task.name, turn).permutation(n_pairs)[place])
    others = [place for place in rng.permutation(n_pairs) if place != subject][:n_shots]
    shown = [task.pairs[place] for place in others]
    return Question(
        index=index,
        n_shots=n_shots,
        shown=tuple(pair.query for pair in shown),
        subject=task.pairs[subject].query,
        prompt="".join(map(task.demonstration, shown)) + task.question(task.pairs[subject]),
    )


def request_text(asked: Question, *, is_chat: bool) -> str:
    """What is sent to the model: the prompt, for a chat model after the instruction."""
    return CHAT_INSTRUCTION + asked.prompt if is_chat else asked.prompt


def stop_strings(task: ListTask | PairTask) -> tuple[str, ...]:
    """Where a completion may end: the separator, or the end of the line."""
    return tuple(dict.fromkeys((task.separator.strip() or task.separator, "\n")))


class Scorer:
    """Tells right answers of one task from wrong ones: exactly, after normalisation.

    A list is continued correctly by a member of the category, under any of its names, that is not in the prompt.
    """

    def __init__(self, task: ListTask | PairTask) -> None:
        self._task = task
        self._members: dict[str, str] = {}
        self._accepted: dict[str, frozenset[str]] = {}
        if isinstance(task, ListTask):
            for member in task.members:
                self._members |= dict.fromkeys(map(normalised, (member.name, *member.aliases)), member.name)
        else:
            self._accepted = {pair.query: frozenset(map(normalised, pair.answers)) for pair in task.pairs}
            self._question_of = {pair.query: task.question(pair).strip() for pair in task.pairs}

    def score(self, asked: Question, reply: str) -> Score:
        """What a reply is worth."""
        answer = normalised(self._first_answer(asked, reply))
        if asked.subject is not None:
            return Score(answer=answer, is_correct=answer in self._accepted[asked.subject], is_repeat=None)
        member = self._members.get(answer)
        is_repeat = member is not None and member in {self._members[normalised(name)] for name in asked.shown}
        return Score(answer=answer, is_correct=member is not None and not is_repeat, is_repeat=is_repeat)

    def chance(self, asked: Sequence[Question]) -> float:
        """The accuracy of guessing without knowing the relation, over these questions.

        Pairs: the answer of a pair taken at random from the whole task. Lists: 0, because who does not know the
        category can only repeat what is in the prompt.
        """
        if isinstance(self._task, ListTask):
            return 0.0
        shown = Counter(normalised(pair.answers[0]) for pair in self._task.pairs)
        hits = sum(shown[answer] for one in asked if one.subject for answer in self._accepted[one.subject])
        return hits / (len(asked) * len(self._task.pairs))

    def _first_answer(self, asked: Question, reply: str) -> str:
        """The reply up to the first separator or the end of its first line, without a repetition of the query.

        A list may be ended in words: " and Spain." is Spain.
        """
        text = reply.lstrip()
        if asked.subject is not None:
            opening = self._question_of[asked.subject]
            if text.casefold().startswith(opening.casefold()):
                text = text[len(opening) :].lstrip()
        line = (text.splitlines() or [""])[0]
        separator = self._task.separator.strip()
        first = line.split(separator)[0] if separator else line
        return re.sub(r"^(and|or|&)\s+", "", first, flags=re.IGNORECASE) if asked.subject is None else first


def normalised(text: str) -> str:
    """NFKC, case-folded, white space collapsed, quotes and punctuation around it stripped."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().strip(_STRIPPED).split())
