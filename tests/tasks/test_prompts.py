"""Populations of aligned lists, with a word-level tokenizer whose answers are known by hand."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest

from tasks.prompts import Population, PromptError, align, check_sizes, list_population, random_word_population
from tasks.seeds import generator
from tasks.task import ListTask, Member, Pair, PairTask

NAMES = ("oak", "elm", "ash", "fir", "yew", "sycamore")
VOCABULARY = [
    ",",
    " oak",
    " elm",
    " ash",
    " fir",
    " yew",
    " syca",
    "more",
    " river",
    " stone",
    " X",
    " ash,",
    "the",
    " of",
]


def encode(text: str) -> list[int]:
    """Longest match first over VOCABULARY, as a stand-in for byte-pair merges."""
    ids = []
    while text:
        piece = max((word for word in VOCABULARY if text.startswith(word)), key=len)
        ids.append(VOCABULARY.index(piece))
        text = text[len(piece) :]
    return ids


def decode(ids: Sequence[int]) -> str:
    return "".join(VOCABULARY[index] for index in ids)


def tree_task(names: tuple[str, ...] = NAMES, separator: str = ",") -> ListTask:
    return ListTask(
        name="tree", version=1, description="", item_prefix=" ", separator=separator, names=names,
        members=tuple(Member(name=name) for name in names), sources=(), licence="CC0-1.0",
    )  # fmt: skip


def test_names_of_several_tokens_and_names_that_merge_with_the_separator_are_rejected() -> None:
    pool = align(tree_task(), encode)
    assert pool.names == ("oak", "elm", "fir", "yew")
    assert pool.rejected == ("ash", "sycamore")
    assert pool.demonstrations[0] == (1, 0)


def test_names_that_the_tokenizer_does_not_know_are_rejected() -> None:
    def with_unknown(text: str) -> list[int]:
        ids = {"oak": 1, "fir": 2}
        return [ids.get(word.strip(), 99) if word != "," else 0 for word in re.findall(r" ?\w+|,", text)]

    assert align(tree_task(), with_unknown).names == ("oak", "fir")


def test_every_ordered_list_occurs_once_with_the_separator_after_each_name() -> None:
    population = list_population(tree_task(), encode, n_names=4, n_shots=3, rng=np.random.default_rng(0))
    assert population.sequences.shape == (math.perm(4, 3), 6)
    assert len(np.unique(population.sequences, axis=0)) == 24
    assert (population.sequences[:, 1::2] == 0).all()
    assert {len(set(row)) for row in population.sequences[:, ::2].tolist()} == {3}
    assert population.is_enumerated
    assert population.demonstration_length == 2
    assert (population.n_survivors, population.n_pool) == (4, 6)


@pytest.mark.parametrize(("n", "k", "size"), [(12, 4, 11_880), (25, 4, 303_600), (16, 5, 524_160), (15, 5, 360_360)])
def test_population_sizes_of_the_presets(n: int, k: int, size: int) -> None:
    assert math.perm(n, k) == size


def test_limit_takes_a_random_subset_and_says_so() -> None:
    limited = list_population(tree_task(), encode, n_names=4, n_shots=3, rng=np.random.default_rng(0), limit=5)
    assert len(np.unique(limited.sequences, axis=0)) == 5
    assert not limited.is_enumerated
    whole = list_population(tree_task(), encode, n_names=4, n_shots=3, rng=np.random.default_rng(0), limit=24)
    assert whole.is_enumerated


def test_the_same_seed_draws_the_same_names_and_another_seed_others() -> None:
    def drawn(seed: int) -> tuple[str, ...]:
        return list_population(tree_task(), encode, n_names=3, n_shots=2, rng=generator(seed, "names")).names

    assert drawn(0) == drawn(0)
    assert len({drawn(seed) for seed in range(10)}) > 1


def test_too_few_survivors_are_refused_with_the_counts() -> None:
    with pytest.raises(PromptError, match=r"4 of its 6 names are a single token .* 5 are needed; lower --n-names to 4"):
        list_population(tree_task(), encode, n_names=5, n_shots=2, rng=np.random.default_rng(0))


def test_demonstrations_that_merge_into_each_other_are_refused() -> None:
    def merging(text: str) -> list[int]:
        return [99] if text.count(",") > 1 else encode(text)

    with pytest.raises(PromptError, match="merge into each other"):
        list_population(tree_task(), merging, n_names=3, n_shots=2, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_names": 4, "n_shots": 5}, "list of 5 different names cannot be drawn from 4"),
        ({"n_names": 4, "n_shots": 0}, "--n-shots must be at least 1, got 0"),
        ({"n_names": 1, "n_shots": 1}, "--n-names must be at least 2"),
        ({"n_names": 4, "n_shots": 2, "limit": 0}, "--limit must leave at least 2 lists, got 0"),
        ({"n_names": 60, "n_shots": 6}, "make 36,045,979,200 lists"),
    ],
)
def test_impossible_sizes_are_refused_with_the_remedy(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        check_sizes(**sizes)


def random_words(n_names: int) -> tuple[str, ...]:
    population = random_word_population(
        tree_task(),
        encode,
        decode,
        vocabulary_size=len(VOCABULARY),
        excluded=tree_task().surface_forms,
        n_names=n_names,
        n_shots=2,
        rng=np.random.default_rng(0),
    )
    return population.names


def test_random_words_are_lower_case_words_of_the_vocabulary_outside_the_category() -> None:
    assert set(random_words(2)) <= {"syca", "river", "stone"}  # no member, no merging fragment, no " of", no " X"
    with pytest.raises(PromptError, match="the vocabulary holds 3 words for the random-words control"):
        random_words(4)


def test_generators_are_told_apart_by_seed_and_label() -> None:
    draws = {(seed, label): generator(seed, label).random() for seed in (0, 1) for label in ("a", "b")}
    assert len(set(draws.values())) == 4
    assert generator(0, "a").random() == draws[0, "a"]


def test_the_content_hash_follows_what_changes_a_prompt_or_a_score() -> None:
    hashes = {
        tree_task().content_hash,
        tree_task(separator=";").content_hash,
        tree_task(names=NAMES[:-1]).content_hash,
    }
    assert len(hashes) == 3
    assert tree_task().content_hash == tree_task().content_hash


PAIR_VOCABULARY = [
    ":", "\n", " Rome", " Paris", " Bern", " Oslo", " Li", "ma", " Italy", " France", " Swiss", " Norway", " Peru",
    " Chi", "le", " Santiago", " Quito", " Ecua", "dor", " tree", " river", " stone", " cloud", " grass", "ly", "er",
]  # fmt: skip
CAPITALS = {"Italy": "Rome", "France": "Paris", "Swiss": "Bern", "Norway": "Oslo", "Peru": "Lima",
            "Chile": "Santiago", "Ecuador": "Quito"}  # fmt: skip


def encode_pairs(text: str) -> list[int]:
    ids = []
    while text:
        piece = max((word for word in PAIR_VOCABULARY if text.startswith(word)), key=len)
        ids.append(PAIR_VOCABULARY.index(piece))
        text = text[len(piece) :]
    return ids


def decode_pairs(ids: Sequence[int]) -> str:
    return "".join(PAIR_VOCABULARY[index] for index in ids)


def capitals(**changes: str) -> PairTask:
    marks = {"item_prefix": " ", "arrow": ":", "answer_prefix": " ", "separator": "\n"} | changes
    pairs = tuple(Pair(query=query, answers=(answer,)) for query, answer in CAPITALS.items())
    return PairTask(name="capital", version=1, description="", pairs=pairs, sources=(), licence="CC0-1.0", **marks)


def test_pairs_are_kept_whose_query_and_answer_have_one_token_count() -> None:
    pool = align(capitals(), encode_pairs, at_least=4)
    assert (pool.names, pool.shape) == (("Italy", "France", "Swiss", "Norway"), (1, 1))
    assert pool.rejected == ("Peru", "Chile", "Ecuador")
    assert decode_pairs(pool.demonstrations[0]) == " Italy: Rome\n"


def test_where_short_pairs_are_too_few_the_shortest_common_count_is_taken() -> None:
    assert align(capitals(), encode_pairs, at_least=2).shape == (1, 1)
    few = PairTask(**{**vars(capitals()), "pairs": capitals().pairs[3:]})
    pool = align(few, encode_pairs, at_least=2)
    assert (pool.shape, pool.names) == ((2, 1), ("Chile", "Ecuador"))
    assert align(few, encode_pairs, at_least=3).names == ("Chile", "Ecuador")  # the most common, where none suffices


def test_pairs_with_an_answer_that_the_tokenizer_does_not_know_are_rejected() -> None:
    def with_unknown(text: str) -> list[int]:
        words = re.findall(r" ?\w+|:|\n", text)
        return [
            {":": 0, "\n": 1}.get(word, 99 if word in (" Rome", " Bern") else sum(map(ord, word))) for word in words
        ]

    assert align(capitals(), with_unknown, at_least=2).names == ("France", "Norway", "Peru", "Chile", "Ecuador")


def test_every_ordered_list_of_pairs_occurs_once() -> None:
    population = list_population(capitals(), encode_pairs, n_names=4, n_shots=2, rng=np.random.default_rng(0))
    assert population.sequences.shape == (12, 8)
    assert population.demonstration_length == 4
    texts = {decode_pairs(row) for row in population.sequences.tolist()}
    assert " Italy: Rome\n France: Paris\n" in texts and len(texts) == 12
    assert set(population.names) == {"Italy: Rome", "France: Paris", "Swiss: Bern", "Norway: Oslo"}
    with pytest.raises(
        PromptError, match=r"4 of its 7 pairs have one token count .* 5 are needed; lower --n-names to 4"
    ):
        list_population(capitals(), encode_pairs, n_names=5, n_shots=2, rng=np.random.default_rng(0))


def random_pairs(task: PairTask, n_names: int) -> tuple[Population, Population]:
    """Pairs of a task, and the same ones in random words."""
    own = list_population(task, encode_pairs, n_names=n_names, n_shots=2, rng=np.random.default_rng(0))
    return own, random_word_population(
        task, encode_pairs, decode_pairs, vocabulary_size=len(PAIR_VOCABULARY), excluded=task.surface_forms,
        n_names=n_names, n_shots=2, rng=np.random.default_rng(0), like=own.parts,
    )  # fmt: skip


def same_where(population: Population) -> np.ndarray:
    """Which tokens of a population are equal to which."""
    tokens = population.sequences.ravel()
    return tokens[:, None] == tokens


def test_random_pairs_have_the_shape_of_the_task_and_share_no_word() -> None:
    _, population = random_pairs(capitals(), 2)
    assert population.demonstration_length == 4
    words = [word for name in population.names for word in name.split(":")]
    assert len(set(words)) == 4
    assert {word.strip() for word in words} <= {"tree", "river", "stone", "cloud", "grass"}
    longer = PairTask(**{**vars(capitals()), "pairs": capitals().pairs[5:]})
    _, population = random_pairs(longer, 2)
    assert population.demonstration_length == 5
    for name in population.names:
        assert re.fullmatch(r"(tree|river|stone|cloud|grass)(ly|er|ma|le|dor): ?\w+", name), name
    with pytest.raises(PromptError, match="the vocabulary holds 2 words"):
        random_pairs(capitals(), 3)


def test_random_pairs_repeat_where_the_pairs_repeat() -> None:
    """Two countries with one answer, and an answer that is a query too."""
    repeating = {"Italy": "Rome", "France": "Rome", "Norway": "Italy"}
    pairs = tuple(Pair(query=query, answers=(answer,)) for query, answer in repeating.items())
    own, other = random_pairs(PairTask(**{**vars(capitals()), "pairs": pairs}), 3)
    assert (same_where(own) == same_where(other)).all()


def test_what_is_the_same_in_every_demonstration_is_kept_in_random_pairs() -> None:
    task = capitals(item_prefix=":\n ", answer_prefix=": ")
    pool = align(task, encode_pairs, at_least=2)
    assert (pool.names, pool.shape) == (("Italy", "France", "Swiss", "Norway"), (1, 1))
    own, other = random_pairs(task, 2)
    assert own.demonstration_length == other.demonstration_length == 7
    constant = [0, 1, 3, 4, 6]
    assert (own.sequences[0, constant] == other.sequences[0, constant]).all()


def test_the_hash_of_a_pair_task_follows_its_template() -> None:
    assert len({capitals().content_hash, capitals(arrow=" ->").content_hash, capitals(separator=",").content_hash}) == 3
