"""What is shipped: the wheel's files and metadata, and the program's help."""

import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mtum_eod import __version__
from mtum_eod.cli import cli

ROOT = Path(__file__).parents[1]
GIVEN = {"ib-insync", "pandas", "ta-lib", "apscheduler", "sqlalchemy", "pytz"}
PEERS = {"backtesting", "backtrader", "vectorbt"}  # benchmarks are held against them; no test or program imports one
FUZZER = {"atheris"}
HEAVY = {"alembic", "apprise", "exchange_calendars", "ib_insync", "numpy", "pandas", "pydantic", "sqlalchemy", "talib"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(f"mtum_eod-{__version__}.dist-info/METADATA").decode())


def test_the_wheel_ships_all_that_the_program_reads(wheel: zipfile.ZipFile) -> None:
    """Every module, the report's templates, the migrations, the marker for types, the licence; no tests, no data."""
    modules = {f"mtum_eod/{path.relative_to(ROOT / 'mtum_eod')}" for path in (ROOT / "mtum_eod").rglob("*.py")}
    templates = {f"mtum_eod/views/templates/report.{kind}" for kind in ("css", "html.j2", "js")}
    migrations = {f"mtum_eod/{path.relative_to(ROOT)}" for path in (ROOT / "migrations").rglob("*.py")}
    folder = f"mtum_eod-{__version__}.dist-info"
    about = {f"{folder}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}

    assert modules | templates | migrations | about | {
        "mtum_eod/py.typed",
        "mtum_eod/migrations/script.py.mako",
    } == set(wheel.namelist())


def test_the_six_given_packages_are_real_dependencies(metadata: Message) -> None:
    """The client named them; none of them hides behind an extra, and each has a range."""
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    real = {canonicalize_name(each.name) for each in required if each.marker is None and each.specifier}

    assert GIVEN == GIVEN & real


def test_each_extra_asks_for_something(metadata: Message) -> None:
    """What not every user needs is an extra; tests need all of them but the benchmarks' peers and the fuzzer."""
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    asked = {
        extra: {each.name for each in required if each.marker and each.marker.evaluate({"extra": extra})}
        for extra in metadata.get_all("Provides-Extra", [])
    }

    assert {"yahoo": {"yfinance"}, "notify": {"apprise"}} == {name: asked[name] for name in ("yahoo", "notify")}
    assert [] == [
        name for name in asked if not asked[name] or (asked[name] - {"mtum-eod"} - PEERS - FUZZER) - asked["test"]
    ]


def test_every_dependency_is_constrained(metadata: Message) -> None:
    """constraints.txt names one exact version within the range, without address, hash or path.

    The benchmarks' peers are left out: they bring numba, which would hold numpy back for everyone. So is the fuzzer,
    whose wheel not every machine can take.
    """
    lines = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    exact = dict(line.split("==") for line in lines)
    constrained = {canonicalize_name(name): version for name, version in exact.items()}
    required = [Requirement(line) for line in [*metadata.get_all("Requires-Dist", []), "hatchling>=1.25,<2"]]

    assert [] == [
        str(each)
        for each in required
        if each.name not in PEERS | FUZZER
        and not each.specifier.contains(constrained.get(canonicalize_name(each.name), "0"))
    ]


def loaded(arguments: list[str], names: set[str], folder: Path) -> str:
    """Which of these packages are imported when a command typed in `folder` ends."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('loaded:', *sorted({names!r} & set(sys.modules)), file=sys.stderr))\n"
        f"sys.argv = ['mtum-eod', *{arguments!r}]\n"
        "from mtum_eod.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder)
    return done.stderr.strip()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["data", "check", "--help"]])
def test_help_and_version_wait_for_no_heavy_import(arguments: list[str], tmp_path: Path) -> None:
    """They are typed by a person who waits; pandas alone would take ten times as long."""
    assert "loaded:" == loaded(arguments, set(HEAVY), tmp_path)


def test_a_backtest_without_a_database_waits_for_no_database_library(tmp_path: Path) -> None:
    """Nor for a progress bar that no terminal would show."""
    typed = ["backtest", "--from", "2024-10-01", "--to", "2024-10-31", "--json"]

    assert "loaded:" == loaded(typed, {"sqlalchemy", "alembic", "rich"}, tmp_path)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that lead to it, groups included."""
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(("path", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands(cli)])
def test_every_help_has_an_example_that_can_be_typed(path: tuple[str, ...], command: click.Command) -> None:
    """Each example is parsed down to its last option, and begins with the command it belongs to."""
    shown = command.get_help(click.Context(command, info_name=" ".join(("mtum-eod", *path)), max_content_width=110))
    lines = [line.strip() for line in shown.splitlines() if line.startswith("    mtum-eod ")]
    typed = [tuple(shlex.split(line.split("   ")[0].split(" > ")[0]))[1:] for line in lines]
    for words in typed:
        parse(list(words))

    assert typed
    assert [path] * len(typed) == [words[: len(path)] for words in typed]


def test_the_help_begins_with_the_seven_commands_of_every_day() -> None:
    """In the order of SPEC section 4; each of the others stands in one of the groups after them."""
    shown = cli.get_help(click.Context(cli, info_name="mtum-eod", max_content_width=110))
    titles = re.findall(r"^(\S.*):$", shown.partition("\nCommands:\n")[2], flags=re.MULTILINE)
    named = re.findall(r"^  ([a-z]+)  ", shown.partition("\nCommands:\n")[2], flags=re.MULTILINE)

    assert ["run", "settle", "schedule", "status", "explain", "doctor", "report"] == named[:7]
    assert sorted(cli.commands) == sorted(named)
    assert ["On history", "Hands on the wheel", "Records and upkeep"] == titles


def parse(words: list[str]) -> None:
    """Read a command line as click would, without running it. Raises click.UsageError."""
    context = cli.make_context("mtum-eod", words)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, context._protected_args + context.args)
        assert command is not None
        context = command.make_context(name, rest, parent=context)
