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


_ALIKE = dict.fromkeys(map(ord, "’‘ʻʼ´`"), "'") | dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
"""Apostrophes that are written one way or another, and characters that are not seen."""


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
    if n_shots < 0:
        raise PromptError(f"a number of shots is at least 0, got {n_shots}")
    if n_shots < least:
        raise PromptError(f"task {task.name!r}: an empty list says nothing of its category; start at 1 shot")
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
    """Where a completion may end: the separator or the end of the line, unless an answer begins with it."""
    candidates = dict.fromkeys((task.separator.strip() or task.separator, "\n"))
    return tuple(stop for stop in candidates if stop not in _answer_prefix(task))


class Scorer:
    """Tells right answers of one task from wrong ones: exactly, after normalisation.

    A list is continued correctly by a member of the category, under any of its names, that is not in the prompt.
    """

    def __init__(self, task: ListTask | PairTask, *, is_chat: bool = False) -> None:
        """With `is_chat`, replies that begin with the prompt again are forgiven it, and marks of bold text."""
        self._task, self._is_chat = task, is_chat
        self._stops = stop_strings(task)
        self._members: dict[str, str] = {}
        self._accepted: dict[str, frozenset[str]] = {}
        self._question_of: dict[str, str] = {}
        if isinstance(task, ListTask):
            for member in task.members:
                forms = map(_without_article, map(normalised, (member.name, *member.aliases)))
                self._members |= dict.fromkeys(forms, member.name)
        else:
            self._accepted = {pair.query: frozenset(map(normalised, pair.answers)) for pair in task.pairs}
            if task.arrow.strip():  # else a query by itself would be cut off an answer that begins like it
                self._question_of = {pair.query: task.question(pair).strip() for pair in task.pairs}

    def score(self, asked: Question, reply: str) -> Score:
        """What a reply is worth."""
        answer = normalised(self._first_answer(asked, reply))
        if asked.subject is not None:
            return Score(answer=answer, is_correct=answer in self._accepted[asked.subject], is_repeat=None)
        answer = _without_article(answer)
        member = self._members.get(answer)
        is_repeat = member is not None and member in {
            self._members[_without_article(normalised(name))] for name in asked.shown
        }
        return Score(answer=answer, is_correct=member is not None and not is_repeat, is_repeat=is_repeat)

    def chance(self, asked: Sequence[Question]) -> float:
        """The accuracy of guessing, over these questions.

        Pairs: of giving the one answer that is right most often, whatever is asked. Lists: 0, because who does not
        know the category can only repeat what is in the prompt.
        """
        if isinstance(self._task, ListTask):
            return 0.0
        right = Counter(answer for one in asked if one.subject for answer in self._accepted[one.subject])
        return max(right.values(), default=0) / len(asked)

    def _first_answer(self, asked: Question, reply: str) -> str:
        """The reply up to the first separator or the end of its first line.

        A completion ends at the first stop string, whether a server has cut it there or not. What the template puts
        before an answer is passed over, so is a repetition of the query, and "and" before the end of a list.
        """
        if self._is_chat:
            text = _after(reply.replace("**", "").lstrip(), asked.prompt.strip())
        else:
            text = reply[: min((at for stop in self._stops if (at := reply.find(stop)) >= 0), default=len(reply))]
            text = text.lstrip()
        if asked.subject in self._question_of:
            text = _after(text, self._question_of[asked.subject])
        text = _after(text, _answer_prefix(self._task).strip())
        line = (text.splitlines() or [""])[0]
        separator = self._task.separator.strip() or self._task.separator.replace("\n", "")
        first = line.split(separator)[0] if separator else line
        return first if asked.subject is not None else re.sub(r"^(and|or|&)\s+", "", first, flags=re.IGNORECASE)


def _answer_prefix(task: ListTask | PairTask) -> str:
    """What the template puts between a prompt and the answer."""
    return task.item_prefix if isinstance(task, ListTask) else task.answer_prefix


def _after(text: str, opening: str) -> str:
    """The text without its opening, if it begins with it, in capitals or not."""
    if opening and text[: len(opening)].casefold() == opening.casefold():
        return text[len(opening) :].lstrip()
    return text


def _without_article(text: str) -> str:
    """A normalised answer without a, an or the."""
    return re.sub(r"^(a|an|the) ", "", text)


def normalised(text: str) -> str:
    """NFKC, case-folded, apostrophes alike, white space collapsed, quotes and punctuation around it stripped."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_ALIKE)
    return " ".join(text.strip(_STRIPPED).split())
