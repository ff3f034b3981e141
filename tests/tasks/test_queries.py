"""Questions are drawn as stated, and answers scored as the docs say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tasks import LISTS, PAIRS, load_task
from tasks.prompts import PromptError
from tasks.queries import (
    CHAT_INSTRUCTION,
    Question,
    Scorer,
    normalised,
    question,
    questions,
    request_text,
    stop_strings,
)
from tasks.task import ListTask, Member, Pair, PairTask

TREES = ListTask(
    name="tree", version=1, description="", item_prefix=" ", separator=",", names=("oak", "elm", "ash"),
    members=tuple(Member(name=name, aliases=aliases) for name, aliases in (
        ("oak", ("oaks", "the oak")), ("elm", ()), ("ash", ()), ("fir", ()),
    )),
    sources=(), licence="CC0-1.0",
)  # fmt: skip
CAPITALS = PairTask(
    name="capital", version=1, description="", item_prefix=" ", arrow=":", answer_prefix=" ", separator="\n",
    pairs=tuple(Pair(query=query, answers=answers) for query, answers in (
        ("France", ("Paris",)), ("Bolivia", ("Sucre", "La Paz")), ("Peru", ("Lima",)), ("Kosovo", ("Pristina",)),
    )),
    sources=(), licence="CC0-1.0",
)  # fmt: skip


def asked(*shown: str, subject: str | None = None) -> Question:
    return Question(index=0, n_shots=len(shown), shown=shown, subject=subject, prompt="")


@pytest.mark.parametrize(
    ("reply", "answer", "is_correct", "is_repeat"),
    [
        (" fir,", "fir", True, False),
        (" Fir", "fir", True, False),
        (" fir, oak, elm", "fir", True, False),
        (" and fir.", "fir", True, False),
        ("\n fir\n", "", False, False),
        (" the fir", "fir", True, False),
        (" An elm.", "elm", True, False),
        (" elm,", "elm", True, False),
        (" oak,", "oak", False, True),
        (" Oaks", "oaks", False, True),
        (" the  oak.", "oak", False, True),
        (" table,", "table", False, False),
        (" a fir tree", "fir tree", False, False),
        ("", "", False, False),
        (",", "", False, False),
        (" android,", "android", False, False),
    ],
)
def test_a_list_is_continued_by_a_member_that_is_not_in_it(
    reply: str, answer: str, is_correct: bool, is_repeat: bool
) -> None:
    score = Scorer(TREES).score(asked("oak", "ash"), reply)
    assert (score.answer, score.is_correct, score.is_repeat) == (answer, is_correct, is_repeat)


@pytest.mark.parametrize(
    ("reply", "is_correct"),
    [
        (" Sucre\n Peru: Lima", True),
        (" La Paz", True),
        ("la  paz.", True),
        ("**Sucre**", True),
        ("“Sucre”", True),
        ("Ｓucre", True),
        ("Bolivia: Sucre", True),
        (" bolivia: Sucre", True),
        ("Sucre, La Paz", False),
        ("Sucre (Bolivia)", False),
        ("The answer is Sucre", False),
        ("Lima", False),
        ("Peru: Lima", False),
        ("Bolivia:", False),
        ("", False),
        ("\n\n", False),
        ("\n Sucre", False),
        ("S\u200bucre", True),
    ],
)
def test_a_pair_is_answered_by_any_of_its_answers_and_nothing_else(reply: str, is_correct: bool) -> None:
    score = Scorer(CAPITALS).score(asked("Peru", subject="Bolivia"), reply)
    assert score.is_correct is is_correct
    assert score.is_repeat is None


@pytest.mark.parametrize(
    ("reply", "is_correct", "is_repeat"),
    [
        ("\n\nfir", True, False),
        ("oak, ash, fir", True, False),
        ("Oak, Ash, elm, fir", True, False),
        ("oak, fir", False, True),
        ("**fir**", True, False),
        ("I'm ready to assist.", False, False),
    ],
)
def test_a_chat_model_may_say_the_prompt_again(reply: str, is_correct: bool, is_repeat: bool) -> None:
    prompt = "".join(map(TREES.demonstration, ("oak", "ash")))
    one = Question(index=0, n_shots=2, shown=("oak", "ash"), subject=None, prompt=prompt)
    score = Scorer(TREES, is_chat=True).score(one, reply)
    assert (score.is_correct, score.is_repeat) == (is_correct, is_repeat)


@pytest.mark.parametrize("reply", ["\nSucre", "Peru: Lima\n Bolivia: Sucre", "**Bolivia**: Sucre", "Bolivia: Sucre\n"])
def test_a_chat_model_may_begin_with_an_empty_line_or_the_prompt(reply: str) -> None:
    one = Question(index=0, n_shots=1, shown=("Peru",), subject="Bolivia", prompt=" Peru: Lima\n Bolivia:")
    assert Scorer(CAPITALS, is_chat=True).score(one, reply).is_correct


TEMPLATES = [
    {}, {"item_prefix": "- ", "separator": "\n"}, {"item_prefix": "\n- ", "separator": ";"},
    {"item_prefix": "an element is ", "separator": "."}, {"separator": " "}, {"item_prefix": "", "separator": " | "},
    {"answer_prefix": "\n"}, {"answer_prefix": " A: "}, {"arrow": "\n", "answer_prefix": "", "separator": "\n\n"},
    {"arrow": " ", "answer_prefix": "", "separator": ";"}, {"arrow": " ->"}, {"separator": "; "},
    {"item_prefix": "Q: ", "arrow": "\n", "answer_prefix": "A: "},
]  # fmt: skip


@pytest.mark.parametrize("marks", TEMPLATES, ids=repr)
def test_whatever_the_template_the_exact_continuation_is_right_stopped_or_not(marks: dict[str, str]) -> None:
    trees = replace(TREES, **{name: mark for name, mark in marks.items() if name in ("item_prefix", "separator")})
    for task in (trees, replace(CAPITALS, **marks)):
        scorer = Scorer(task)
        for one in questions(task, n_shots=1, n_questions=10, seed=0):
            if isinstance(task, PairTask):
                reply = f"{task.answer_prefix}{next(p.answers[0] for p in task.pairs if p.query == one.subject)}"
            else:
                reply = f"{task.item_prefix}fir"
            stops = stop_strings(task)
            assert not any(stop in reply for stop in stops)
            assert scorer.score(one, reply).is_correct
            assert scorer.score(one, reply + task.separator + one.prompt).is_correct


def test_chance_is_what_the_best_constant_answer_scores() -> None:
    colours = PairTask(
        name="colour-of", version=1, description="", item_prefix=" ", arrow=":", answer_prefix=" ", separator="\n",
        pairs=tuple(Pair(query=query, answers=answers) for query, answers in
                    (("blood", ("red",)), ("rose", ("pink", "red")), ("snow", ("white",)), ("coal", ("black",)))),
        sources=(), licence="CC0-1.0",
    )  # fmt: skip
    every = questions(colours, n_shots=0, n_questions=4, seed=0)
    assert Scorer(colours).chance(every) == 0.5
    assert Scorer(colours).chance([one for one in every if one.subject != "blood"]) == pytest.approx(1 / 3)
    assert Scorer(TREES).chance([asked("oak")]) == 0


def test_the_same_seed_draws_the_same_questions_and_more_shots_only_add_demonstrations() -> None:
    task = load_task("antonym")
    assert isinstance(task, PairTask)
    few, many = (questions(task, n_shots=n_shots, n_questions=50, seed=3) for n_shots in (2, 8))
    assert few == questions(task, n_shots=2, n_questions=50, seed=3)
    assert [one.subject for one in few] == [one.subject for one in many]
    for short, long in zip(few, many, strict=True):
        assert long.shown[:2] == short.shown
        assert long.prompt.startswith(short.prompt[: -len(task.question(Pair(query=str(short.subject), answers=())))])
    other = questions(task, n_shots=2, n_questions=50, seed=4)
    assert [one.subject for one in other] != [one.subject for one in few]
    assert few[7] == question(task, index=few[7].index, n_shots=2, seed=3)


def test_every_pair_is_asked_before_one_is_asked_again_and_never_after_its_own_answer() -> None:
    found = questions(CAPITALS, n_shots=1, n_questions=12, seed=0)
    assert len({one.prompt for one in found}) == len(found) == 12  # all that there are: 4 queries after 3 others
    assert {one.subject for one in found[:4]} == {pair.query for pair in CAPITALS.pairs}
    assert all(one.subject not in one.shown for one in found)
    assert Counter(one.subject for one in found) == Counter({pair.query: 3 for pair in CAPITALS.pairs})


def test_there_are_no_more_questions_than_different_prompts() -> None:
    assert len(questions(CAPITALS, n_shots=0, n_questions=100, seed=0)) == 4
    assert len(questions(TREES, n_shots=1, n_questions=100, seed=0)) == 3
    assert len(questions(TREES, n_shots=2, n_questions=100, seed=0)) == 6


@pytest.mark.parametrize(
    ("task", "n_shots", "message"),
    [
        (TREES, 0, "an empty list says nothing of its category; start at 1 shot"),
        (CAPITALS, -1, "a number of shots is at least 0, got -1"),
        (TREES, 3, "has 3 items, too few for 3 shots and a question; ask for 2 shots or fewer"),
        (CAPITALS, 4, "ask for 3 shots or fewer"),
    ],
)
def test_impossible_numbers_of_shots_are_refused(task: ListTask | PairTask, n_shots: int, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        questions(task, n_shots=n_shots, n_questions=5, seed=0)


def test_prompts_are_as_documented() -> None:
    one = question(CAPITALS, index=0, n_shots=2, seed=0)
    answer = {pair.query: pair.answers[0] for pair in CAPITALS.pairs}
    assert one.prompt == "".join(f" {query}: {answer[query]}\n" for query in one.shown) + f" {one.subject}:"
    listed = question(TREES, index=0, n_shots=2, seed=0)
    assert listed.prompt == "".join(f" {name}," for name in listed.shown)
    assert request_text(one, is_chat=True) == CHAT_INSTRUCTION + one.prompt
    assert request_text(one, is_chat=False) == one.prompt
    assert (stop_strings(TREES), stop_strings(CAPITALS)) == ((",", "\n"), ("\n",))


def test_normalisation_is_idempotent_and_the_same_for_what_looks_the_same() -> None:
    assert normalised(" “Côte d'Ivoire”. ") == "côte d'ivoire"
    assert normalised("ﬁr  tree") == normalised("FIR tree") == "fir tree"
    for text in ("a.b.", "«x»", " . ", "straße"):
        assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize("name", [*LISTS, *PAIRS])
def test_an_oracle_scores_one_and_a_liar_zero_on_every_task(name: str) -> None:
    task = load_task(name)
    assert isinstance(task, ListTask | PairTask)
    scorer = Scorer(task)
    for one in questions(task, n_shots=4, n_questions=100, seed=0):
        if isinstance(task, PairTask):
            answers = next(pair.answers for pair in task.pairs if pair.query == one.subject)
            assert all(scorer.score(one, f" {answer}{task.separator}").is_correct for answer in answers)
            wrong = next(pair for pair in task.pairs if not set(pair.answers) & set(answers))
            assert not scorer.score(one, wrong.answers[0]).is_correct
        else:
            other = next(other for other in task.names if other not in one.shown)
            assert scorer.score(one, f" {other},").is_correct
            assert not scorer.score(one, one.shown[0]).is_correct
            assert scorer.score(one, one.shown[0]).is_repeat
        assert not scorer.score(one, "nonsense").is_correct
