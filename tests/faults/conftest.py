"""The fixture `cases`, and the mark that every test here carries."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.faults.ledger import THE_TEST_ITSELF, Cases
from tests.faults.rows import ROWS

OUTSIDE = pytest.StashKey[BaseException]()
"""What a test raised outside its cases."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.nodeid.split("/"):
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Iterator[Cases]:
    """Counts the cases of this test under the row that the module is named after: test_a_kill.py is row A."""
    row = request.node.path.name.removeprefix("test_").split("_")[0].upper()
    assert row in ROWS, f"{request.node.path.name} is not named after a row"
    found = Cases(row, request.node.name)
    yield found
    if (error := request.node.stash.get(OUTSIDE, None)) is not None:
        found.failed(THE_TEST_ITSELF, error)
    found.settle()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    try:
        yield
    except BaseException as error:
        item.stash[OUTSIDE] = error
        raise
