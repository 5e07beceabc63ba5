"""What the pages in docs/ promise exists: commands, options, messages, gates, and the places they link to."""

import re
import shlex
from pathlib import Path

import click
import pytest

from mtum_eod.cli import cli
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Gate

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

COMMANDS = sorted(
    {
        (name, command.strip())
        for name, text in TEXTS.items()
        for command in [
            *re.findall(r"`mtum-eod ([^`\n]*)`", text),
            *re.findall(r"^ *(?:\.venv/bin/)?mtum-eod (.*)$", text, re.MULTILINE),
        ]
    }
)


def unknown_words(typed: str) -> list[str]:
    """The words of a command line that the program does not know: commands and options."""
    command: click.Command = cli
    unknown = []
    for word in shlex.split(typed, comments=True):
        if word.startswith("-"):
            options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            if word not in options | {"--help", "--version", "--test"}:
                unknown.append(word)
        elif isinstance(command, click.Group):
            found = command.commands.get(word)
            if found is None:
                return [*unknown, word]
            command = found
    return unknown


@pytest.mark.parametrize(("page", "typed"), COMMANDS)
def test_a_command_on_a_page_can_be_typed(page: str, typed: str) -> None:
    assert [] == unknown_words(typed), page


def test_a_command_that_does_not_exist_is_seen() -> None:
    assert ["frobnicate"] == unknown_words("frobnicate --now")
    assert ["--sideways"] == unknown_words("run --sideways")


def test_every_message_is_explained() -> None:
    """The table of alarms names each event once, in the order of the settings."""
    table = TEXTS["docs/operations.md"].split("<!-- table: alarms -->")[1].split("\n\n")[0]

    assert sorted(Event) == sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


def test_every_gate_has_its_way_out() -> None:
    section = TEXTS["docs/troubleshooting.md"].split("## No signal")[1].split("\n## ")[0]
    named = {
        gate for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for gate in re.findall(r"`(\w+)`", row)
    }

    assert {str(gate) for gate in Gate} - {"not_a_session"} == named - {"blocked_by"}


@pytest.mark.parametrize("page", TEXTS)
def test_a_link_leads_somewhere(page: str) -> None:
    """Files and, in them, headings."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        if not file.exists():
            dead.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}:
                dead.append(target)

    assert [] == dead
