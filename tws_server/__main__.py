"""A server by hand: `python -m tws_server`, and `mtum-eod` typed at the server's time."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from unittest.mock import patch

import click

from tws_server.market import NEW_YORK
from tws_server.server import Server

PROMPT = "tws> "


@click.command(
    context_settings={"max_content_width": 110},
    epilog="\b\nExample:\n  python -m tws_server --at 2024-11-05T15:40 -- mtum-eod run -- at 16:20 -- mtum-eod settle",
)
@click.option("--port", default=4002, show_default=True, help="Where to listen on 127.0.0.1; 0 for any free port.")
@click.option("--account", default="DU1234567", show_default=True, help="DU... is a paper account, U... a live one.")
@click.option("--at", "start", help="Start the clock there, New York time, such as 2024-11-05T15:40. Default: now.")
@click.option("--version", default=176, show_default=True, help="The newest protocol to agree on.")
@click.argument("commands", nargs=-1)
def main(port: int, account: str, start: str | None, version: int, commands: tuple[str, ...]) -> None:
    """Serve the sample's bars as IB Gateway would, with a clock that ticks.

    COMMANDS, divided by `--`, are carried out at the server's time; without any they are read from the terminal.
    `mtum-eod ...` runs the program, in mode paper with bars and orders through this server unless the environment
    says otherwise; `at 16:20` or `at 2024-11-06T15:40` moves the clock.
    """
    try:
        at = datetime.now(UTC) if start is None else _instant(start, datetime.now(NEW_YORK))
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it as 2024-11-05T15:40", param_hint="--at") from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        try:
            server = Server(at=at, account=account, version=version, port=port, ticks=True)
            tws = stack.enter_context(server)
        except OSError as error:
            raise click.ClickException(
                f"port {port}: {os.strerror(error.errno or 0)}; choose another one with --port"
            ) from None
        click.echo(f"TWS for tests on 127.0.0.1:{tws.port}, account {account}, sample bars, {_now(tws)}", err=True)
        for name, value in {"MODE": "paper", "DATA__SOURCE": "ib", "IB__PAPER_PORT": str(tws.port)}.items():
            os.environ.setdefault(f"MTUM_EOD_{name}", value)
        code = 0
        for words in _divided(commands) if commands else _typed():
            code = _carry_out(words, tws)
        sys.exit(code)


def _carry_out(words: list[str], tws: Server) -> int:
    """The exit code of one command."""
    name, *rest = words
    if name == "at" and len(rest) == 1:
        try:
            tws.clock.set(_instant(rest[0], tws.clock.now().astimezone(NEW_YORK)))
        except ValueError as error:
            click.echo(f"at {rest[0]}: {error}", err=True)
            return 2
        click.echo(_now(tws), err=True)
        return 0
    if name == "mtum-eod":
        from mtum_eod.cli import cli

        try:
            # The program takes the machine's clock and has no switch for another one, so it gets the server's here.
            with patch("mtum_eod.bootstrap.SystemClock", lambda: tws.clock):
                cli(rest, prog_name="mtum-eod")
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    click.echo(f"{name}: type `mtum-eod ...`, `at HH:MM` or `at YYYY-MM-DDTHH:MM`", err=True)
    return 2


def _divided(commands: tuple[str, ...]) -> Iterator[list[str]]:
    words: list[str] = []
    for word in (*commands, "--"):
        if word != "--":
            words.append(word)
        elif words:
            yield words
            words = []


def _typed() -> Iterator[list[str]]:
    """Commands from the terminal; where there is none, the server stays until it is ended."""
    if not sys.stdin.isatty():
        signal.pause()
    while True:
        try:
            line = shlex.split(input(PROMPT))
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        except ValueError as error:  # an open quote
            click.echo(f"{error}", err=True)
            continue
        if line:
            yield line


def _instant(text: str, today: datetime) -> datetime:
    """A wall time in New York, of `today` where it names no date. Raises ValueError."""
    day, _, wall = text.rpartition("T")
    return datetime.fromisoformat(f"{day or today.date()}T{wall}").replace(tzinfo=NEW_YORK)


def _now(tws: Server) -> str:
    return f"{tws.clock.now().astimezone(NEW_YORK):%A %Y-%m-%d %H:%M:%S} in New York"


main(prog_name="python -m tws_server")
