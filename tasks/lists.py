"""List tasks, read from the data files in `tasks/data/`."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.task import ListTask, Member

DATA_FOLDER = Path(__file__).parent / "data"


def load_list_task(filename: str) -> ListTask:
    """Read one data file of kind `list`.

    Raises:
        ValueError: the file is not a list task, or a pool name is not a member of the category.
    """
    content = json.loads((DATA_FOLDER / filename).read_text(encoding="utf-8"))
    if content["kind"] != "list":
        raise ValueError(f"{filename}: expected kind 'list', got {content['kind']!r}")
    unknown = sorted(set(content["names"]) - set(content["members"]))
    if unknown:
        raise ValueError(f"{filename}: names that are not members of the category: {', '.join(unknown)}")
    return ListTask(
        name=content["name"],
        version=content["version"],
        description=content["description"],
        item_prefix=content["item_prefix"],
        separator=content["separator"],
        names=tuple(content["names"]),
        members=tuple(Member(name=name, aliases=tuple(aliases)) for name, aliases in content["members"].items()),
        sources=tuple(content["sources"]),
        licence=content["licence"],
    )
