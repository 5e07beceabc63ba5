"""docs/architecture.md says what the code is."""

import re

from test_architecture import MAY_IMPORT, PACKAGE

PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_its_table_is_the_one_imports_are_held_to() -> None:
    """Each row names a room and all it may import."""
    table = PAGE.split("<!-- table: rooms -->")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    drawn = {room.strip("`"): set(imports.split(", ")) if imports else set() for room, _, imports in rows}

    assert drawn == MAY_IMPORT


def test_every_module_it_names_exists() -> None:
    """A module that moves takes its name on this page along."""
    named = set(re.findall(r"`((?:core|jobs|adapters|views)/[\w/]+\.py|\w+\.(?:py|toml))`", PAGE))
    missing = {name for name in named if not ((PACKAGE / name).is_file() or (PACKAGE.parent / name).is_file())}

    assert set() == missing
    assert len(named) > 15


def test_one_line_sends_orders() -> None:
    """The page says where; nowhere else does a job call it."""
    calls = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "broker.submit(" in line
    ]

    assert ["jobs/order.py"] == calls
