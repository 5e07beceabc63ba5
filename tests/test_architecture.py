"""The rooms of the house, and who may import whom."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mtum_eod"

MAY_IMPORT = {
    "errors": set(),
    "core": {"core"},
    "ports": {"core"},
    "adapters": {"core", "ports", "adapters"},
    "jobs": {"core", "ports", "jobs"},
    "views": {"core", "views"},
    "settings": {"core"},
    "bootstrap": {"adapters", "jobs", "ports", "settings", "core"},
    # jobs: a door calls one and shows its outcome; daemon: the minute that cron's door shares with it
    "cli": {"bootstrap", "settings", "views", "core", "jobs", "daemon"},
    "__main__": {"cli"},
    "daemon": {"bootstrap", "settings", "views", "core", "jobs"},
}
"""Room or module, and the others it may import; `errors` and the package itself, its version, are free to all."""

FOR_TYPES_ONLY = {"views": {"jobs", "ports"}}
"""What may also stand under TYPE_CHECKING: an outcome's type is the jobs' word, showing it needs none of their code."""

PURE = {"core", "ports", "jobs", "errors"}
"""Rooms without a socket, a file, a clock, a database or a vendor."""

ARITHMETIC = {"numpy", "pandas", "talib"}
"""What pure rooms may import besides the standard library."""

OUTSIDE_WORLD = {
    *("asyncio", "ftplib", "http", "multiprocessing", "select", "smtplib", "socket", "ssl", "subprocess", "urllib"),
    *("fcntl", "glob", "io", "os", "pathlib", "shelve", "shutil", "sqlite3", "tempfile"),
    *("sched", "signal", "threading", "time"),
}
"""Modules of the standard library through which sockets, files, clocks and other processes come in."""

ONE_HOME = {
    "alembic": "adapters.store",
    "apprise": "adapters.notices",
    "apscheduler": "daemon",
    "exchange_calendars": "adapters.calendar",
    "filelock": "adapters.lock",
    "ib_async": "adapters.ib",
    "ib_insync": "adapters.ib",
    "pydantic": "settings",
    "sqlalchemy": "adapters.store",
    "sqlite3": "adapters.store",
    "yfinance": "adapters.yahoo",
}
"""Each vendor lives behind one port, in one module or folder."""


@dataclass(frozen=True)
class Import:
    """One imported module."""

    importer: str  # dotted, below mtum_eod: `core.strategy`
    imported: str  # dotted: `mtum_eod.core.money`, `pandas.tseries`
    is_for_types: bool  # under `if TYPE_CHECKING:`
    is_at_top: bool  # runs when the importer is imported


def imports_of(importer: str, source: str, modules: set[str]) -> Iterator[Import]:
    """Every import of a module's source, those inside functions included.

    modules: the dotted names of the project's modules, to tell `from package import module` from its other names.
    """

    def walk(node: ast.AST, is_for_types: bool, is_at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(importer, alias.name, is_for_types, is_at_top)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{importer}: a relative import"
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    yield Import(importer, full if full in modules else child.module or "", is_for_types, is_at_top)
            elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                for inner in child.body:
                    yield from walk(ast.Module(body=[inner], type_ignores=[]), True, False)
                for inner in child.orelse:
                    yield from walk(ast.Module(body=[inner], type_ignores=[]), is_for_types, is_at_top)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, is_for_types, is_at_top and not inside)

    yield from walk(ast.parse(source), False, True)


def read_house() -> list[Import]:
    """Every import in the package."""
    sources = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    modules = {f"mtum_eod.{name}" if name else "mtum_eod" for name in sources}
    return [found for name, source in sources.items() for found in imports_of(name, source, modules)]


def room_of(module: str) -> str:
    """`core` of `mtum_eod.core.strategy` or of `core.strategy`; empty for the package itself."""
    return module.removeprefix("mtum_eod").removeprefix(".").split(".")[0]


def forbidden(imports: list[Import]) -> list[str]:
    """The imports that run against the arrows."""
    found = []
    for each in imports:
        room, other = room_of(each.importer), room_of(each.imported)
        top = each.imported.split(".")[0]
        if top == "mtum_eod":
            allowed = MAY_IMPORT.get(room, set()) | {"", "errors"}
            if each.is_for_types:
                allowed |= FOR_TYPES_ONLY.get(room, set())
            if other not in allowed:
                found.append(f"{each.importer} imports {each.imported}")
        elif room in PURE:
            if top not in ARITHMETIC and (top in OUTSIDE_WORLD or top not in sys.stdlib_module_names):
                found.append(f"{each.importer} imports {each.imported}")
        elif top in ONE_HOME and not f"{each.importer}.".startswith(f"{ONE_HOME[top]}."):
            found.append(f"{each.importer} imports {each.imported}, which is at home in {ONE_HOME[top]}")
    return found


def circle(imports: list[Import]) -> list[str]:
    """One circle of modules that import each other, or none; imports for types only do not run."""
    edges: dict[str, set[str]] = {}
    for each in imports:
        if each.imported.startswith("mtum_eod.") and not each.is_for_types:
            edges.setdefault(each.importer, set()).add(each.imported.removeprefix("mtum_eod."))
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(edges.get(module, ())):
            if found := visit(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(edges) if (found := visit(module, []))), [])


HOUSE = read_house()
MODULES = {f"mtum_eod.{each.importer}" for each in HOUSE}


def test_every_import_follows_the_arrows() -> None:
    """Rooms import downwards; core, ports and jobs touch no socket, file, clock or vendor; each vendor has one home."""
    violations = forbidden(HOUSE)

    assert [] == violations


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Functions' own imports count too: a circle put off is still one."""
    found = circle(HOUSE)

    assert [] == found


def test_every_module_has_its_room() -> None:
    """A new folder or module at the top has no rules until it is in the table."""
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}

    assert set() == rooms - set(MAY_IMPORT) - {"__init__"}


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("core.strategy", "from mtum_eod.jobs.decide import decide_session"),
        ("core.strategy", "from mtum_eod import ports"),
        ("core.strategy", "def rule():\n    import mtum_eod.adapters.clock"),
        ("core.strategy", "from datetime import datetime\nimport time"),
        ("core.ledger", "import sqlalchemy"),
        ("ports", "from mtum_eod.adapters.store import SqlStore"),
        ("jobs.decide", "from mtum_eod.adapters.clock import SystemClock"),
        ("jobs.decide", "if TYPE_CHECKING:\n    from mtum_eod.bootstrap import Workplace"),
        ("jobs.settle", "from pathlib import Path"),
        ("jobs.settle", "try:\n    import ib_insync\nexcept ImportError:\n    pass"),
        ("views.text", "from mtum_eod.jobs.outcome import Outcome"),
        ("adapters.sample", "from mtum_eod.settings import Settings"),
        ("adapters.yahoo", "import sqlalchemy"),
        ("adapters.storeroom", "import sqlalchemy"),
        ("settings", "import mtum_eod.bootstrap"),
        ("bootstrap", "from mtum_eod import cli"),
    ],
)
def test_a_reversed_arrow_is_seen(importer: str, source: str) -> None:
    """Each rule is broken once, in a made-up line."""
    violations = forbidden(list(imports_of(importer, source, MODULES)))

    assert 1 == len(violations)


def test_a_circle_is_seen() -> None:
    """Three modules, each importing the next, the last one inside a function."""
    sources = {
        "core.a": "from mtum_eod.core import b",
        "core.b": "import mtum_eod.core.c",
        "core.c": "def late():\n    from mtum_eod.core.a import x",
    }
    modules = {f"mtum_eod.{name}" for name in sources}
    imports = [each for name, source in sources.items() for each in imports_of(name, source, modules)]

    assert ["core.a", "core.b", "core.c", "core.a"] == circle(imports)
