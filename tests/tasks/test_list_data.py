"""The data of the list tasks: form, spelling and facts of the lists that the package ships."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "tasks" / "data"
KEYS = [
    "schema", "name", "kind", "version", "description", "item_prefix", "separator", "names", "members", "sources",
    "licence",
]  # fmt: skip
POOL = {"country": 60, "animal": 60, "colour": 45, "element": 50, "us-state": 40}  # fewest names to draw from
MEMBERS = {"country": 193 + 2, "animal": 500, "colour": 200, "element": 118, "us-state": 50}  # fewest members
NOT_UN = {
    "Vatican City", "Palestine", "Taiwan", "Kosovo", "England", "Scotland", "Wales", "Northern Ireland",
}  # fmt: skip
lists = pytest.mark.parametrize("name", sorted(POOL))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing the repeated keys that `json.loads` would drop silently."""
    assert len({k for k, _ in pairs}) == len(pairs), "repeated key"
    return dict(pairs)


@cache
def load(name: str) -> dict[str, Any]:
    data = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"), object_pairs_hook=unique)
    assert isinstance(data, dict)
    return data


def forms(name: str) -> list[tuple[str, str]]:
    """All (form, canonical name) pairs: each canonical name and each of its aliases."""
    return [(form, key) for key, aliases in load(name)["members"].items() for form in [key, *aliases]]


@cache
def resolve(name: str) -> dict[str, str]:
    return {form.casefold(): key for form, key in forms(name)}


@lists
def test_schema(name: str) -> None:
    data = load(name)
    assert list(data) == KEYS
    fixed = {"schema": 1, "name": name, "kind": "list", "version": 1, "item_prefix": " ", "separator": ","}
    assert {k: data[k] for k in fixed} == fixed
    assert all(type(data[k]) is int for k in ("schema", "version"))
    assert data["licence"] == "CC0-1.0"
    assert data["description"].strip().endswith(".") and "\n" not in data["description"]
    assert data["sources"] and all(isinstance(s, str) and s.strip() for s in data["sources"])
    assert all(isinstance(n, str) for n in data["names"])
    assert all(isinstance(a, str) for aliases in data["members"].values() for a in aliases)
    assert all(isinstance(aliases, list) for aliases in data["members"].values())


@lists
def test_file_layout(name: str) -> None:
    text = (DATA / f"{name}.json").read_text(encoding="utf-8")
    assert text == json.dumps(load(name), ensure_ascii=False, indent=2) + "\n"


@lists
def test_sizes(name: str) -> None:
    assert len(load(name)["names"]) >= POOL[name]
    assert len(load(name)["members"]) >= MEMBERS[name]


@lists
def test_names_are_distinct_one_word_members(name: str) -> None:
    names, members = load(name)["names"], load(name)["members"]
    assert len(set(names)) == len(names)
    assert [n for n in names if n not in members] == []
    word = r"[A-Z][a-z]+" if name in ("country", "us-state") else r"[a-z]+"
    assert [n for n in names if not re.fullmatch(word, n)] == []


@lists
def test_no_form_belongs_to_two_members(name: str) -> None:
    count = Counter(form.casefold() for form, _ in forms(name))
    assert [form for form, n in count.items() if n > 1] == []


@lists
def test_spelling(name: str) -> None:
    separator = load(name)["separator"]
    bad = [
        form
        for form, _ in forms(name)
        if not form or form != " ".join(form.split()) or not form.isprintable() or separator in form
    ]
    assert bad == []


@lists
def test_members_are_sorted(name: str) -> None:
    members = list(load(name)["members"])
    assert members == sorted(members, key=lambda m: (m.casefold(), m))


@pytest.mark.parametrize("name", ["animal", "colour", "element"])
def test_common_nouns_are_lower_case(name: str) -> None:
    assert [form for form, _ in forms(name) if form != form.lower()] == []


def test_all_un_members_are_countries() -> None:
    members = set(load("country")["members"])
    assert NOT_UN <= members
    assert len(members - NOT_UN) == 193


def test_all_elements_and_states_are_there() -> None:
    assert len(load("element")["members"]) == 118
    assert len(load("us-state")["members"]) == 50
    assert set(load("us-state")["names"]) == {m for m in load("us-state")["members"] if " " not in m}


def test_state_forms_are_no_other_words() -> None:
    words = {
        "in", "me", "or", "hi", "ok", "oh", "id", "la", "ma", "pa", "al", "de", "mass", "miss", "ill", "ore", "wash",
        "ark", "ind", "mo", "md", "ala", "va", "ga", "del",
    }  # fmt: skip
    assert {form for form, _ in forms("us-state") if form.casefold().strip(".") in words} == set()


@pytest.mark.parametrize(
    ("name", "form", "canonical"),
    [
        # the permanent members of the Security Council
        ("country", "China", "China"),
        ("country", "France", "France"),
        ("country", "Russian Federation", "Russia"),
        ("country", "UK", "United Kingdom"),
        ("country", "USA", "United States"),
        # other names
        ("country", "america", "United States"),
        ("country", "U.S.", "United States"),
        ("country", "us", "United States"),
        ("country", "Great Britain", "United Kingdom"),
        ("country", "Holland", "Netherlands"),
        ("country", "The Netherlands", "Netherlands"),
        ("country", "Burma", "Myanmar"),
        ("country", "Czechia", "Czech Republic"),
        ("country", "Côte d'Ivoire", "Ivory Coast"),
        ("country", "Cote d'Ivoire", "Ivory Coast"),
        ("country", "Türkiye", "Turkey"),
        ("country", "Swaziland", "Eswatini"),
        ("country", "Holy See", "Vatican City"),
        ("country", "Republic of China", "Taiwan"),
        ("country", "People's Republic of China", "China"),
        ("country", "Zaire", "Democratic Republic of the Congo"),
        ("country", "Congo-Brazzaville", "Republic of the Congo"),
        ("country", "DPRK", "North Korea"),
        ("country", "Republic of Korea", "South Korea"),
        ("country", "UAE", "United Arab Emirates"),
        ("country", "Timor-Leste", "East Timor"),
        ("country", "Cabo Verde", "Cape Verde"),
        ("country", "Macedonia", "North Macedonia"),
        ("country", "Viet Nam", "Vietnam"),
        ("country", "St. Lucia", "Saint Lucia"),
        ("country", "Niger", "Niger"),
        ("country", "Nigeria", "Nigeria"),
        ("country", "Guinea-Bissau", "Guinea-Bissau"),
        ("country", "Dominica", "Dominica"),
        ("country", "Dominican Republic", "Dominican Republic"),
        # plurals and synonyms
        ("animal", "mice", "mouse"),
        ("animal", "geese", "goose"),
        ("animal", "oxen", "ox"),
        ("animal", "wolves", "wolf"),
        ("animal", "Dogs", "dog"),
        ("animal", "foxes", "fox"),
        ("animal", "butterflies", "butterfly"),
        ("animal", "donkeys", "donkey"),
        ("animal", "octopi", "octopus"),
        ("animal", "hippo", "hippopotamus"),
        ("animal", "reindeer", "caribou"),
        ("animal", "puma", "cougar"),
        ("animal", "killer whale", "orca"),
        ("animal", "ladybug", "ladybird"),
        ("animal", "bunny", "rabbit"),
        ("animal", "puppies", "puppy"),
        ("animal", "lambs", "lamb"),
        ("animal", "sheep", "sheep"),
        # spellings
        ("colour", "grey", "grey"),
        ("colour", "Gray", "grey"),
        ("colour", "light gray", "light grey"),
        ("colour", "LightGray", "light grey"),
        ("colour", "dark slate gray", "dark slate grey"),
        ("colour", "navy blue", "navy"),
        ("colour", "ocher", "ochre"),
        ("colour", "vermillion", "vermilion"),
        ("colour", "eggplant", "aubergine"),
        ("colour", "rebeccapurple", "rebecca purple"),
        ("colour", "hotpink", "hot pink"),
        # elements
        ("element", "aluminum", "aluminium"),
        ("element", "Sulphur", "sulfur"),
        ("element", "cesium", "caesium"),
        ("element", "wolfram", "tungsten"),
        ("element", "quicksilver", "mercury"),
        ("element", "natrium", "sodium"),
        ("element", "deuterium", "hydrogen"),
        ("element", "gold", "gold"),
        ("element", "oganesson", "oganesson"),
        # states
        ("us-state", "california", "California"),
        ("us-state", "Calif.", "California"),
        ("us-state", "Hawai'i", "Hawaii"),
        ("us-state", "Commonwealth of Virginia", "Virginia"),
        ("us-state", "W. Va.", "West Virginia"),
        ("us-state", "N.Y.", "New York"),
        ("us-state", "Washington State", "Washington"),
        ("us-state", "State of Georgia", "Georgia"),
    ],
)
def test_form_resolves(name: str, form: str, canonical: str) -> None:
    assert resolve(name)[form.casefold()] == canonical


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("country", "Paris"),
        ("country", "Europe"),
        ("country", "Greenland"),
        ("country", "Soviet Union"),
        ("country", "French"),
        ("animal", "table"),
        ("animal", "oak"),
        ("animal", "unicorn"),
        ("animal", "pet"),
        ("colour", "dog"),
        ("colour", "loud"),
        ("colour", "colour"),
        ("element", "water"),
        ("element", "bronze"),
        ("element", "steel"),
        ("element", "ozone"),
        ("us-state", "Puerto Rico"),
        ("us-state", "Washington, D.C."),
        ("us-state", "Chicago"),
        ("us-state", "Ontario"),
    ],
)
def test_other_words_are_not_members(name: str, form: str) -> None:
    assert form.casefold() not in resolve(name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("country", "France Germany China Japan India Russia Canada Italy Spain Australia Mexico Brazil Israel Egypt"),
        ("animal", "dog cat fish bird horse cow lion wolf pig sheep rabbit tiger snake monkey duck elephant goat"),
        ("colour", "red blue green black white yellow orange brown pink purple grey gold silver violet navy tan"),
        ("element", "hydrogen helium carbon nitrogen oxygen iron gold silver copper lead tin zinc mercury uranium"),
        ("us-state", "California Texas Florida Washington Virginia Georgia Ohio Michigan Oregon Alaska Hawaii"),
    ],
)
def test_pool_holds_the_commonest_words(name: str, wanted: str) -> None:
    assert set(wanted.split()) <= set(load(name)["names"])
    assert "gray" not in load("colour")["names"]
