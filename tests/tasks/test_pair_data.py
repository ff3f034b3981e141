"""The data of the pair tasks and of the text sample: form, spelling and facts of the files that the package ships."""

import hashlib
import io
import json
import re
import tarfile
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tasks.make_text_sample import as_sentences, debian_file, is_sentence, plain, read_source, sentences

DATA = Path(__file__).resolve().parents[2] / "tasks" / "data"
KEYS = [
    "schema", "name", "kind", "version", "description", "item_prefix", "arrow", "answer_prefix", "separator", "pairs",
    "sources", "licence",
]  # fmt: skip
NAMES = [
    "adjective-comparative", "animal-young", "antonym", "country-capital", "country-currency", "country-demonym",
    "element-symbol", "english-french", "english-german", "english-spanish", "number-successor", "object-colour",
    "present-past", "singular-plural", "verb-gerund", "word-first-letter",
]  # fmt: skip
FEWEST = 100
COPIES = {"singular-plural": {"sheep", "fish", "deer"}}  # right answers that repeat the query
MOST_FREQUENT = {  # largest share of one first answer; tasks that are not named have no answer twice
    "animal-young": 0.25,
    "antonym": 0.04,
    "country-currency": 0.17,
    "english-french": 0.02,
    "english-german": 0.02,
    "english-spanish": 0.02,
    "object-colour": 0.30,
    "word-first-letter": 0.08,
}
LOWER_CASE = set(NAMES) - {
    "country-capital", "country-currency", "country-demonym", "element-symbol", "english-german",
}  # fmt: skip
pairs_of_a_task = pytest.mark.parametrize("name", NAMES)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing the repeated keys that `json.loads` would drop silently."""
    assert len({k for k, _ in pairs}) == len(pairs), "repeated key"
    return dict(pairs)


@cache
def load(name: str) -> dict[str, Any]:
    data = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"), object_pairs_hook=unique)
    assert isinstance(data, dict)
    return data


def pairs(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = load(name)["pairs"]
    return found


def normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def test_every_pair_file_is_tested() -> None:
    kinds = {path.stem: json.loads(path.read_text(encoding="utf-8"))["kind"] for path in DATA.glob("*.json")}
    assert sorted(name for name, kind in kinds.items() if kind == "pairs") == NAMES


@pairs_of_a_task
def test_schema(name: str) -> None:
    data = load(name)
    assert list(data) == KEYS
    fixed = {
        "schema": 1, "name": name, "kind": "pairs", "version": 1, "item_prefix": " ", "arrow": ":",
        "answer_prefix": " ", "separator": "\n", "licence": "CC0-1.0",
    }  # fmt: skip
    assert {k: data[k] for k in fixed} == fixed
    assert all(type(data[k]) is int for k in ("schema", "version"))
    assert re.fullmatch(r"[A-Z].*\.", data["description"])
    assert data["sources"] and all(isinstance(s, str) and s.strip() for s in data["sources"])
    assert all(isinstance(answers, list) and answers for answers in data["pairs"].values())
    assert all(isinstance(answer, str) for answers in data["pairs"].values() for answer in answers)


@pairs_of_a_task
def test_file_layout(name: str) -> None:
    text = (DATA / f"{name}.json").read_text(encoding="utf-8")
    assert text == json.dumps(load(name), ensure_ascii=False, indent=1) + "\n"


@pairs_of_a_task
def test_size(name: str) -> None:
    assert len(pairs(name)) >= FEWEST


@pairs_of_a_task
def test_spelling(name: str) -> None:
    data = load(name)
    forms = [form for query, answers in data["pairs"].items() for form in (query, *answers)]
    assert [f for f in forms if not f or f != " ".join(f.split()) or not f.isprintable()] == []
    assert [f for f in forms if f != unicodedata.normalize("NFC", f)] == []
    assert [query for query in data["pairs"] if data["arrow"] in query] == []
    assert [f for f in forms if data["separator"] in f] == []
    if name in LOWER_CASE:
        assert [f for f in [*data["pairs"], *(a[0] for a in data["pairs"].values())] if f != f.lower()] == []


@pairs_of_a_task
def test_no_answer_or_query_is_listed_twice(name: str) -> None:
    assert [q for q, answers in pairs(name).items() if len(set(map(normal, answers))) < len(answers)] == []
    assert len(set(map(normal, pairs(name)))) == len(pairs(name))


@pairs_of_a_task
def test_first_answers_are_one_word(name: str) -> None:
    words = {answers[0] for answers in pairs(name).values()}
    several = {word for word in words if " " in word}
    if name == "number-successor":
        assert several == {"one hundred", "one hundred one", "one hundred two"}
    elif name in ("country-capital", "country-demonym"):
        assert len(several) < 20
    else:
        assert several == set()


@pairs_of_a_task
def test_the_query_is_not_its_own_answer(name: str) -> None:
    copied = {query for query, answers in pairs(name).items() if normal(query) in map(normal, answers)}
    allowed = COPIES.get(name, set())
    if name in ("singular-plural", "english-french", "english-spanish", "english-german", "country-demonym"):
        copied = {query for query in copied if normal(pairs(name)[query][0]) == normal(query)}
    assert copied == allowed


@pairs_of_a_task
def test_no_answer_is_too_frequent(name: str) -> None:
    answer, count = Counter(answers[0] for answers in pairs(name).values()).most_common(1)[0]
    assert count <= max(1, MOST_FREQUENT.get(name, 0) * len(pairs(name))), answer


def test_antonyms_go_one_way() -> None:
    firsts = {answers[0] for answers in pairs("antonym").values()}
    assert firsts & set(pairs("antonym")) == set()


def test_first_letters() -> None:
    assert [q for q, answers in pairs("word-first-letter").items() if answers != [q[0]]] == []
    count = Counter(q[0] for q in pairs("word-first-letter"))
    assert set(count) == set("abcdefghijklmnopqrstuvwxyz")
    assert min(n for letter, n in count.items() if letter != "x") >= 4


def test_symbols() -> None:
    assert len(pairs("element-symbol")) == 118
    symbols = [answers for answers in pairs("element-symbol").values()]
    assert [s for s in symbols if len(s) != 1 or not re.fullmatch("[A-Z][a-z]?", s[0])] == []


def test_forms_of_words() -> None:
    assert [a for answers in pairs("verb-gerund").values() for a in answers if not a.endswith("ing")] == []
    odd = {"good": "better", "bad": "worse"}
    comparatives = pairs("adjective-comparative")
    assert [q for q, a in comparatives.items() if not a[0].endswith("er") and odd.get(q) != a[0]] == []
    assert [q for q, a in comparatives.items() for x in a[1:] if x.startswith("more ") and x != f"more {q}"] == []


def test_colours_are_known() -> None:
    colours = json.loads((DATA / "colour.json").read_text(encoding="utf-8"))["members"]
    known = {form for name, aliases in colours.items() for form in (name, *aliases)} | {"golden"}
    assert {a for answers in pairs("object-colour").values() for a in answers} - known == set()
    mixed = [q for q, answers in pairs("object-colour").items() if ("grey" in answers) != ("gray" in answers)]
    assert mixed == []


def test_young_of_animals_are_of_animals() -> None:
    animals = json.loads((DATA / "animal.json").read_text(encoding="utf-8"))["members"]
    known = {form for name, aliases in animals.items() for form in (name, *aliases)}
    assert set(pairs("animal-young")) - known - {"human"} == set()


def test_countries_are_countries() -> None:
    countries = json.loads((DATA / "country.json").read_text(encoding="utf-8"))["members"]
    for name in ("country-capital", "country-currency", "country-demonym"):
        assert set(pairs(name)) - set(countries) - {"Georgia", "Jordan"} == set()


def test_disputed_capitals_are_left_out() -> None:
    assert {"Israel", "Palestine", "Kosovo", "Singapore"} & set(pairs("country-capital")) == set()


FACTS = """
country-capital: France=Paris; Australia=Canberra; Canada=Ottawa; Turkey=Ankara; Brazil=Brasília; Kazakhstan=Astana
country-capital: Bolivia=La Paz; Bolivia=Sucre; South Africa=Cape Town; Ukraine=Kiev; Ukraine=Kyiv; Nigeria=Abuja
country-capital: Tanzania=Dodoma; Myanmar=Naypyidaw; Switzerland=Bern; New Zealand=Wellington; Morocco=Rabat
country-currency: Japan=yen; France=euro; Croatia=euro; Bulgaria=euro; Sweden=krona; Poland=zloty; Russia=rouble
country-currency: United States=dollar; United States=US dollar; United Kingdom=pound sterling; Brazil=reais
country-currency: India=Indian rupee; China=renminbi; Switzerland=Swiss franc; Senegal=CFA franc; Denmark=Danish krone
country-currency: Australia=Australian dollar; Namibia=Namibian dollar; Mexico=pesos; Israel=new shekel
country-demonym: France=French; France=Frenchman; Germany=Germans; Spain=Spaniard; Netherlands=Dutch; Turkey=Turkish
country-demonym: Greece=Greek; Portugal=Portuguese; Switzerland=Swiss; Argentina=Argentinian; Philippines=Filipino
country-demonym: Myanmar=Burmese; New Zealand=New Zealander; Poland=Pole; Denmark=Dane; Thailand=Thai
antonym: hot=cold; big=small; big=little; up=down; fast=slow; easy=difficult; day=night; buy=sell; remember=forget
antonym: cheap=expensive; ancient=modern; borrow=lend; arrive=depart; maximum=minimum
singular-plural: man=men; child=children; mouse=mice; goose=geese; ox=oxen; knife=knives; box=boxes; city=cities
singular-plural: cactus=cactuses; cactus=cacti; crisis=crises; sheep=sheep; day=days; roof=roofs; bus=buses
present-past: go=went; have=had; bring=brought; think=thought; teach=taught; lay=laid; dream=dreamt; learn=learned
present-past: swim=swam; hang=hanged; stop=stopped; carry=carried; flee=fled; seek=sought
verb-gerund: run=running; make=making; lie=lying; die=dying; travel=travelling; travel=traveling; begin=beginning
verb-gerund: see=seeing; open=opening; swim=swimming; play=playing; admit=admitting
adjective-comparative: good=better; bad=worse; far=further; far=farther; big=bigger; happy=happier; old=older
adjective-comparative: simple=more simple; dry=drier; thin=thinner; late=later; wide=wider
number-successor: one=two; nine=ten; nineteen=twenty; twenty=twenty-one; twenty-nine=thirty; ninety-nine=one hundred
number-successor: ninety-nine=a hundred; one hundred=one hundred and one; first=second; ninth=tenth; zero=one
animal-young: dog=puppy; cat=kitten; cow=calf; sheep=lamb; horse=foal; lion=cub; kangaroo=joey; swan=cygnet
animal-young: hare=leveret; frog=tadpole; deer=fawn; seal=pup; goat=kid; eagle=eaglet; llama=cria
english-french: water=eau; king=roi; dog=chien; heart=cœur; heart=coeur; summer=été; red=rouge; eight=huit
english-french: bread=pain; yesterday=hier; old=vieille; bird=oiseau
english-spanish: water=agua; king=rey; dog=perro; year=año; heart=corazón; red=rojo; eight=ocho
english-spanish: bread=pan; window=ventana; tree=árbol; yesterday=ayer
english-german: water=Wasser; king=König; king=Koenig; dog=Hund; street=Strasse; green=grün; red=rot; eight=acht
english-german: bread=Brot; yesterday=gestern; bird=Vogel; window=Fenster
object-colour: banana=yellow; snow=white; blood=red; grass=green; coal=black; sky=blue; elephant=gray; carrot=orange
object-colour: chocolate=brown; flamingo=pink; eggplant=purple; sapphire=blue
element-symbol: hydrogen=H; gold=Au; silver=Ag; iron=Fe; lead=Pb; tungsten=W; sodium=Na; potassium=K; tin=Sn
element-symbol: mercury=Hg; antimony=Sb; copper=Cu; oganesson=Og; neptunium=Np; cesium=Cs
word-first-letter: apple=a; zebra=z; queen=q; year=y; moon=m; egg=e; jacket=j; voice=v; king=k
"""


def facts() -> list[tuple[str, str, str]]:
    found = []
    for line in FACTS.strip().splitlines():
        name, rest = line.split(": ", 1)
        for part in rest.split(";"):
            query, answer = part.strip().split("=")
            found.append((name, query, answer))
    return found


@pytest.mark.parametrize(("name", "query", "answer"), facts())
def test_fact(name: str, query: str, answer: str) -> None:
    assert normal(answer) in map(normal, pairs(name)[query])


def test_facts_of_every_task() -> None:
    count = Counter(name for name, _, _ in facts())
    assert set(count) == set(NAMES) and min(count.values()) >= 8


@pytest.mark.parametrize(
    ("name", "query", "answer"),
    [
        ("country-capital", "Australia", "Sydney"),
        ("country-capital", "Turkey", "Istanbul"),
        ("country-capital", "Netherlands", "The Hague"),
        ("country-capital", "Nigeria", "Lagos"),
        ("country-currency", "Croatia", "kuna"),
        ("country-currency", "Bulgaria", "lev"),
        ("country-currency", "Sweden", "euro"),
        ("country-demonym", "Netherlands", "German"),
        ("antonym", "hot", "warm"),
        ("singular-plural", "mouse", "mouses"),
        ("present-past", "go", "goed"),
        ("present-past", "lay", "lain"),
        ("verb-gerund", "make", "makeing"),
        ("adjective-comparative", "good", "gooder"),
        ("number-successor", "nine", "eleven"),
        ("animal-young", "cow", "cub"),
        ("english-french", "water", "agua"),
        ("english-spanish", "water", "eau"),
        ("object-colour", "snow", "black"),
        ("element-symbol", "silver", "Si"),
    ],
)
def test_wrong_answers_are_not_accepted(name: str, query: str, answer: str) -> None:
    assert normal(answer) not in map(normal, pairs(name)[query])


TEXT_KEYS = ["schema", "name", "kind", "version", "description", "file", "sha256", "n_sentences", "sources", "licence"]


def test_text_sample() -> None:
    about = load("text-sample")
    assert list(about) == TEXT_KEYS
    assert (about["schema"], about["name"], about["kind"], about["version"]) == (1, "text-sample", "text", 1)
    content = (DATA / about["file"]).read_bytes()
    assert len(content) <= 1_200_000 and hashlib.sha256(content).hexdigest() == about["sha256"]
    text = content.decode("utf-8")
    assert text.endswith("\n") and "\r" not in text
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) == about["n_sentences"] >= 6000
    assert len({normal(line) for line in lines}) == len(lines)


def test_text_sample_lines() -> None:
    lines = (DATA / "text-sample.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.match("[A-Z]", line) or len(line.split()) < 8] == []
    assert [line for line in lines if line != " ".join(line.split()) or not line.isprintable()] == []
    assert [line for line in lines if not re.search(r"[.!?]['\")]?$", line)] == []
    assert [line for line in lines if re.search("[‘’“”–—…<>{}|;]", line)] == []
    assert sum(line.isascii() for line in lines) >= 0.99 * len(lines)


def test_sentences_are_cut_and_chosen() -> None:
    text = (
        "The first of these sentences is long enough. Too short. "
        "The last one was surely written some years before World War II. Nobody"
    )
    assert list(sentences(text)) == [
        "The first of these sentences is long enough.",
        "The last one was surely written some years before World War II.",
    ]
    assert list(sentences("A list; of things that are: not one whole sentence.")) == []
    assert not is_sentence("This sentence has a bracket (that is nowhere ever closed.")
    assert not is_sentence("In this one the name of SHOUTING stands in capitals.")
    assert is_sentence("It ends with a question, but is that not fine?")


def test_markup_goes() -> None:
    assert plain("<p>The king’s “two” <em>sons</em></p>A&amp;B") == '\nThe king\'s "two" sons\nA&B'


def test_clauses_become_sentences() -> None:
    assert as_sentences("the navy guards the coast (2025); motto: none") == "The navy guards the coast.\nmotto: none"


def test_other_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.whl").write_bytes(b"other")
    with pytest.raises(ValueError, match="expected the file with SHA-256 00"):
        read_source(tmp_path / "other.whl", "00")


def test_debian_file() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz") as tar:
        member = tarfile.TarInfo("./usr/share/word")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    data = archive.getvalue()

    def entry(name: str, content: bytes) -> bytes:
        return (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )

    package = b"!<arch>\n" + entry("debian-binary", b"2.0") + entry("data.tar.xz", data)
    assert debian_file(package, "./usr/share/word") == b"hello"
    with pytest.raises(ValueError, match="has no file"):
        debian_file(package, "./usr/share/words")
    with pytest.raises(ValueError, match="no Debian package: it holds no data.tar"):
        debian_file(b"!<arch>\n" + entry("debian-binary", b"2.0"), "./usr/share/word")
