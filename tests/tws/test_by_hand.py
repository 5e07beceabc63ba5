"""`python -m tws_server`: a server for a person, and the program typed at the server's time."""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

from plain import Plain

from tws_server import Server

COMMAND = [sys.executable, "-m", "tws_server", "--port", "0"]
ROOT = Path(__file__).resolve().parents[2]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The variables of a person without settings of their own."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MTUM_EOD_")}
    return bare | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)} | more


def typed(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True, text=True, cwd=folder, timeout=60, check=False, env=environment(folder, **more),
    )  # fmt: skip


def test_one_line_says_where_it_listens_and_what_time_it_is(tmp_path: Path) -> None:
    """It serves until it is ended."""
    with subprocess.Popen(
        [*COMMAND, "--account", "DU42", "--at", "2024-11-05T15:40"],
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=tmp_path, env=environment(tmp_path),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(re.findall(r"127\.0\.0\.1:(\d+)", line)[0])
        with Plain(port) as client:
            accounts = client.said[0][1][2]
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=10)

    assert (
        f"TWS for tests on 127.0.0.1:{port}, account DU42, sample bars, Tuesday 2024-11-05 15:40:00 in New York\n",
        "DU42",
        0,
    ) == (line, accounts, code)


def test_the_program_lives_at_the_servers_time(tmp_path: Path) -> None:
    """Without a date it takes today's session, which is the server's today; `at` moves on to another one."""
    run = ["mtum-eod", "run", "--dry-run", "--json"]
    simulated = {"MTUM_EOD_MODE": "simulated", "MTUM_EOD_DATA__SOURCE": "sample"}
    command = ["--at", "2024-11-05T15:40", "--", *run, "--", "at", "2024-11-06T15:40", "--", *run]
    spoken = typed(tmp_path, *command, **simulated)
    documents = re.split(r"(?<=^\})\n", spoken.stdout.strip(), flags=re.MULTILINE)

    assert (0, ["2024-11-05", "2024-11-06"]) == (
        spoken.returncode,
        [json.loads(document)["session"] for document in documents],
    ), spoken.stderr


def test_a_day_on_paper_without_an_account(tmp_path: Path) -> None:
    """Decided at 15:40, bought in the auction, settled at 16:20."""
    words = ["mtum-eod run --json", "at 16:20", "mtum-eod settle", "mtum-eod export fills --format csv"]
    spoken = typed(tmp_path, "--at", "2024-11-05T15:40", *(each for line in words for each in ("--", *line.split())))
    document, rest = re.split(r"(?<=^\})\n", spoken.stdout, maxsplit=1, flags=re.MULTILINE)
    decided = json.loads(document)

    assert (0, "paper", "BUY", "working") == (
        spoken.returncode,
        decided["mode"],
        decided["action"],
        decided["order"]["status"],
    ), spoken.stderr
    assert f",BUY,MTUM,{decided['shares']},207.74," in rest


def test_without_a_time_the_clock_is_the_machines(tmp_path: Path) -> None:
    spoken = typed(tmp_path, "--", "at", "12:00")
    days = re.findall(r"\d{4}-\d\d-\d\d", spoken.stderr)

    assert (0, 2) == (spoken.returncode, len(days))
    assert abs((date.fromisoformat(days[0]) - date.today()).days) <= 1  # noqa: DTZ011  # New York's date may differ


def test_what_it_does_not_understand_is_said_and_ends_in_2(tmp_path: Path) -> None:
    """The exit code is the last command's."""
    spoken = typed(tmp_path, "--", "at", "noon", "--", "dance", "--", "mtum-eod", "nothing")

    assert (2, ["at noon: Invalid isoformat string", "dance: type `mtum-eod ...`", "No such command 'nothing'"]) == (
        spoken.returncode,
        re.findall(
            r"at noon: Invalid isoformat string|dance: type `mtum-eod ...`|No such command 'nothing'", spoken.stderr
        ),
    )


def test_a_port_in_use_and_a_time_that_is_none_are_said_in_words(tmp_path: Path) -> None:
    """Neither ends in a traceback."""
    with Server() as other:
        taken = typed(tmp_path, "--port", str(other.port), "--", "at", "12:00")
    wrong = typed(tmp_path, "--at", "teatime")

    assert (1, f"Error: port {other.port}: Address already in use; choose another one with --port") == (
        taken.returncode,
        taken.stderr.strip(),
    )
    assert (2, "write it as 2024-11-05T15:40") == (wrong.returncode, wrong.stderr.strip()[-28:])
