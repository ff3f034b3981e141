"""The data beside second sources: packages at test time, dictionaries where BENCH_DICTIONARIES names their folder.

Each task must agree with its second source in at least 95 of the 100 pairs of which that knows something, and the
disagreements must be exactly those listed here with the reason. The dictionaries are those of the Debian packages
wordnet-base, dict-freedict-eng-fra, dict-freedict-eng-spa and dict-freedict-eng-deu: BENCH_DICTIONARIES is a folder
into which they were unpacked with `dpkg -x`, or `/` where they are installed.
"""

import gzip
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "tasks" / "data"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return found


def pairs(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = load(name)["pairs"]
    return found


def compare(
    name: str,
    agrees: Callable[[str, list[str]], bool | None],
    known: dict[str, str],
    *,
    least: float = 0.95,
    covered: float = 0.95,
) -> None:
    """Compare all pairs of a task.

    `agrees` says None for a query of which the second source knows nothing; `covered` is the least share of the others.
    """
    verdicts = {query: agrees(query, answers) for query, answers in pairs(name).items()}
    compared = {query for query, verdict in verdicts.items() if verdict is not None}
    disagreeing = {query for query in compared if not verdicts[query]}
    assert disagreeing - set(known) == set(), "new disagreements: correct the data, or list them with a reason"
    assert set(known) - disagreeing == set(), "listed disagreements that are none"
    assert len(compared) >= covered * len(verdicts), "too little to compare"
    assert 1 - len(disagreeing) / len(compared) >= least


def test_capitals() -> None:
    from countryinfo import CountryInfo

    def agrees(query: str, answers: list[str]) -> bool:
        return CountryInfo(query).capital() in answers

    compare("country-capital", agrees, {"Kazakhstan": "renamed back from Nur-Sultan in 2022"})


def test_currencies() -> None:
    import pycountry
    from countryinfo import CountryInfo

    def agrees(query: str, answers: list[str]) -> bool:
        forms = {answer.casefold() for answer in answers}
        for code in CountryInfo(query).currencies():
            currency = pycountry.currencies.get(alpha_3=code)
            if currency is not None and forms & {currency.name.casefold(), *currency.name.casefold().split()}:
                return True
        return False

    known = {
        "Bulgaria": "the euro since 2026, the source has BGN",
        "Croatia": "the euro since 2023, the source has HRK",
        "Belarus": "the source has BYR, replaced by BYN in 2016: the rouble still",
        "Sierra Leone": "the source has SLL, replaced by SLE in 2022: the leone still",
        "Venezuela": "the source has VEF, replaced twice since 2018: the bolivar still",
        "Zambia": "the source has ZMK, replaced by ZMW in 2013: the kwacha still",
    }
    compare("country-currency", agrees, known)


def test_demonyms() -> None:
    from countryinfo import CountryInfo

    def agrees(query: str, answers: list[str]) -> bool:
        return set((CountryInfo(query).demonym() or "").split(",")) <= set(answers)

    compare("country-demonym", agrees, {"Tajikistan": "the source has the older spelling Tadzhik"})


@pytest.mark.parametrize(
    ("name", "tag", "known"),
    [
        (
            "singular-plural",
            "NNS",
            {"person": "the source has persons alone", "ox": "the source has the rule, oxes"},
        ),
        ("present-past", "VBD", {}),
        ("verb-gerund", "VBG", {}),
        ("adjective-comparative", "JJR", {"blue": "the source has the rule, blueer"}),
    ],
)
def test_inflections(name: str, tag: str, known: dict[str, str]) -> None:
    import lemminflect

    def agrees(query: str, answers: list[str]) -> bool | None:
        forms = lemminflect.getInflection(query, tag=tag)
        return answers[0] in forms if forms else None

    compare(name, agrees, known)


def test_plurals_again() -> None:
    import inflect

    modern, classical = inflect.engine(), inflect.engine()
    classical.classical(all=True)

    def agrees(query: str, answers: list[str]) -> bool:
        return answers[0] in {modern.plural(query), classical.plural(query)}

    known = {
        "grandchild": "the source has the rule, grandchilds",
        "gentleman": "the source takes it for a name like German, gentlemans",
    }
    compare("singular-plural", agrees, known)


def test_gerunds_again() -> None:
    import inflect

    engine = inflect.engine()

    def agrees(query: str, answers: list[str]) -> bool:
        return engine.present_participle(query) in answers

    known = {
        "open": "the source doubles the consonant after an unstressed syllable, openning",
        "listen": "the source doubles the consonant after an unstressed syllable, listenning",
    }
    compare("verb-gerund", agrees, known)


def test_numbers() -> None:
    from num2words import num2words

    following = {num2words(n).replace(" and ", " "): num2words(n + 1) for n in range(200)}
    following |= {num2words(n, to="ordinal"): num2words(n + 1, to="ordinal") for n in range(50)}

    def agrees(query: str, answers: list[str]) -> bool:
        return following.get(query) in answers

    compare("number-successor", agrees, {}, least=1)


def test_symbols() -> None:
    import periodictable

    symbols = {element.name: element.symbol for element in periodictable.elements if element.number}
    british = {"aluminum": "aluminium", "cesium": "caesium", "sulfur": "sulphur"}

    def agrees(query: str, answers: list[str]) -> bool:
        return [symbols.get(query) or symbols.get(british.get(query, ""))] == answers

    compare("element-symbol", agrees, {}, least=1)


def test_elements_are_complete() -> None:
    import periodictable

    names = {element.name for element in periodictable.elements if element.number}
    members = load("element")["members"]
    assert len(names) == len(members) == 118
    assert [n for n in names if sum(n in (name, *aliases) for name, aliases in members.items()) != 1] == []


def test_states_are_complete() -> None:
    import pycountry

    names = {part.name for part in pycountry.subdivisions.get(country_code="US") if part.type == "State"}
    assert set(load("us-state")["members"]) == names


@cache
def dictionaries() -> Path:
    folder = os.environ.get("BENCH_DICTIONARIES")
    if not folder:
        pytest.skip("BENCH_DICTIONARIES names no folder with the Debian dictionaries")
    share = Path(folder) / "usr" / "share"
    if not (share / "wordnet").is_dir() or not (share / "dictd").is_dir():
        pytest.skip(f"BENCH_DICTIONARIES: {folder} has no usr/share/wordnet and usr/share/dictd")
    return share


def number(digits: str) -> int:
    """Read a number of a dictd index, whose 64 digits are those of base64."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    value = 0
    for digit in digits:
        value = value * 64 + alphabet.index(digit)
    return value


def entries(language: str) -> dict[str, str]:
    """The entries of an English dictionary by head word, without the head words."""
    base = dictionaries() / "dictd" / f"freedict-eng-{language}"
    content = gzip.decompress(base.with_suffix(".dict.dz").read_bytes())
    found: defaultdict[str, str] = defaultdict(str)
    for line in base.with_suffix(".index").read_text(encoding="utf-8").splitlines():
        head, offset, length = line.split("\t")[:3]
        entry = content[number(offset) : number(offset) + number(length)].decode("utf-8")
        found[head] += entry.partition("\n")[2] + "\n"
    return found


@pytest.mark.parametrize(
    ("name", "language", "known"),
    [
        (
            "english-french",
            "fra",
            {
                "car": "the source has auto, bagnole",
                "work": "the source has fonctionner, travailler, ouvrage, œuvre",
                "power": "the source has puissance",
            },
        ),
        (
            "english-spanish",
            "spa",
            {
                "salt": "the source has an adjective, carnesalada",
                "beautiful": "the source has bonito",
                "hundred": "the source has ciento",
                "under": "the source has debajo de",
                "eat": "the source has comerse",
                "who": "the source has cuál, que",
            },
        ),
        ("english-german", "deu", {"is": "the source has the whole verb, sein, under be"}),
    ],
)
def test_translations(name: str, language: str, known: dict[str, str]) -> None:
    found = entries(language)

    def agrees(query: str, answers: list[str]) -> bool | None:
        text = found.get(query) or found.get(query.title())
        if text is None:
            return None
        return re.search(rf"(?<!\w){re.escape(answers[0])}(?!\w)", text, re.IGNORECASE) is not None

    compare(name, agrees, known)


Synset = tuple[str, str]


def synsets() -> dict[Synset, tuple[list[str], list[tuple[str, Synset, str]]]]:
    """WordNet: the words of every synset, and its pointers (symbol, target, the two words that it holds for)."""
    found = {}
    for part, letter in (("adj", "a"), ("adv", "r"), ("noun", "n"), ("verb", "v")):
        for line in (dictionaries() / "wordnet" / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.partition(" | ")[0].split()
            end = 4 + 2 * int(fields[3], 16)
            words = [re.sub(r"\(.*\)", "", word).replace("_", " ") for word in fields[4:end:2]]
            starts = range(end + 1, end + 1 + 4 * int(fields[end]), 4)
            pointers = [(fields[i], (fields[i + 2].replace("s", "a"), fields[i + 1]), fields[i + 3]) for i in starts]
            found[(letter, fields[0])] = (words, pointers)
    return found


def test_antonyms() -> None:
    wordnet = synsets()
    direct: defaultdict[str, set[str]] = defaultdict(set)
    of_word: defaultdict[str, list[Synset]] = defaultdict(list)
    for synset, (words, pointers) in wordnet.items():
        for word in words:
            of_word[word].append(synset)
        for symbol, target, which in pointers:
            if symbol == "!":
                direct[words[int(which[:2], 16) - 1]].add(wordnet[target][0][int(which[2:], 16) - 1])

    def near(synset: Synset) -> list[Synset]:
        return [synset, *(target for symbol, target, _ in wordnet[synset][1] if symbol == "&")]

    def agrees(query: str, answers: list[str]) -> bool | None:
        if answers[0] in direct[query]:
            return True
        for synset in of_word[query]:
            for close in near(synset):
                for symbol, target, _ in wordnet[close][1]:
                    if symbol == "!" and any(answers[0] in wordnet[other][0] for other in near(target)):
                        return True
        return False if direct[query] else None

    known = {
        "happy": "the source has unhappy, and glad as the opposite of sad",
        "profit": "the source has the verbs, profit and lose",
    }
    compare("antonym", agrees, known, covered=0.9)
