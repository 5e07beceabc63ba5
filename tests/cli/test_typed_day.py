"""Days as they are lived and looked back on: cron's minutes, hands on the wheel, records, upkeep, replays."""

import csv
import io
import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from fakes import FakeClock, calendar
from lived import live, work_in
from terminal import MORNING, Person

from mtum_eod.cli import cli

NOT_REPLAYED = {"mode", "source", "synthetic", "dry_run", "as_of", "order"}


def values(document: dict[str, Any]) -> dict[str, Any]:
    """What a replay must give again: all but mode of running, instant and order."""
    return {key: value for key, value in document.items() if key not in NOT_REPLAYED}


# -- deciding ---------------------------------------------------------------------------------------------------------


def test_run_answers_with_the_documented_keys_in_their_order(person: Person):
    document = person.types("run --date 2024-11-05 --json").document
    keys = "session mode source synthetic dry_run as_of close ma_50 rsi atr volume volume_ma_20 volume_basis vix "
    keys += "trend_bullish vix_stable rsi_bullish volume_confirm entry_confluence exit_reasons exit_confluence action "
    keys += "shares blocked_by reason order position warnings"

    assert keys.split() == list(document)
    assert ["key", "side", "type", "shares", "status"] == list(document["order"])
    assert "mtum-eod/simulated/SIMULATED/MTUM/2024-11-05/BUY" == document["order"]["key"]


def test_a_past_session_run_twice_answers_with_its_record(person: Person):
    first = person.types("run --date 2024-11-05 --json").document
    second = person.types("run --date 2024-11-05 --json")
    person.types("settle")
    settled = person.types("run --date 2024-11-05 --json").document

    assert (0, first | {"blocked_by": "already_decided"}) == (second.exit_code, second.document)
    assert ("already_decided", "filled") == (settled["blocked_by"], settled["order"]["status"])
    assert [(1,)] == person.sql("SELECT count(*) FROM simulated_order")


def test_todays_session_run_twice_answers_with_its_record(person: Person):
    person.at("2024-11-06", 20)
    first = person.types("run --json").document
    second = person.types("run --json").document

    assert ("same_time", first | {"blocked_by": "already_decided"}) == (first["volume_basis"], second)


def test_a_book_is_not_run_with_a_hole_in_it(person: Person):
    person.types("run --date 2024-11-01")
    typed = person.types("run --date 2024-11-05 --json")

    assert (2, "settings") == (typed.exit_code, typed.error["code"])
    assert "2024-11-04" in typed.error["hint"]


def test_a_book_is_not_run_backwards(person: Person):
    person.types("run --date 2024-11-05")
    typed = person.types("run --date 2024-11-01 --json")

    assert (2, "settings") == (typed.exit_code, typed.error["code"])
    assert "sessions are run in order" in typed.error["message"]


AT_CLOCK = """
import sys
from dataclasses import replace
from datetime import datetime
from mtum_eod import bootstrap
from mtum_eod.adapters.clock import SessionClock
from mtum_eod.cli import main
clock = SessionClock(datetime.fromisoformat(sys.argv.pop(1)))
bootstrap.SystemClock = lambda: clock
main()
"""


def test_two_processes_at_once_make_one_order(person: Person):
    """Both start at the same minute; one does the step, the other finds the lock held or the session decided."""
    command = [sys.executable, "-c", AT_CLOCK, "2024-11-05T20:40:00+00:00", "run", "--if-due", "--json"]
    both = [
        subprocess.Popen(command, cwd=person.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    said = [process.communicate() for process in both]
    codes = [process.returncode for process in both]

    assert [0, 0, 0, 0] == codes, said
    assert [(1, 1)] == person.sql("SELECT (SELECT count(*) FROM order_intent), (SELECT count(*) FROM simulated_order)")
    assert [("2024-11-05", "decided")] == person.sql("SELECT session, status FROM sessions")


# -- a day by cron ----------------------------------------------------------------------------------------------------


def test_cron_does_each_step_of_a_day_once(person: Person):
    """Every five minutes from noon to nine in the evening, New York."""
    person.at("2024-11-05", 240)
    done = []
    for _ in range(12 * 9):
        document = person.types("run --if-due --json").document
        if document.get("step"):
            at = person.clock.now() - timedelta(hours=5)
            done.append((f"{at:%H:%M}", document["step"]))
        person.clock.sleep(timedelta(minutes=5))

    assert [("14:00", "preflight"), ("15:40", "decide"), ("16:20", "settle"), ("18:00", "evening")] == done
    assert [("preflight", 0), ("decide", 0), ("settle", 0), ("evening", 0)] == person.sql(
        "SELECT step, exit_code FROM runs"
    )
    assert [(1, 0)] == person.sql("SELECT count(*), sum(commission IS NULL) FROM fills")


def test_the_next_day_makes_the_marks_of_the_day_before_final_and_writes_its_drift(person: Person):
    for session in ("2024-11-05", "2024-11-06"):
        person.at(session, 20).types("run --if-due")
        person.at(session, -20).types("run --if-due")

    assert [("2024-11-05", 1), ("2024-11-06", 0)] == person.sql("SELECT session, is_final FROM equity_mark")
    assert [("2024-11-05", "BUY", "BUY"), ("2024-11-06", "HOLD", None)] == person.sql(
        "SELECT session, action, drift_action FROM signals"
    )


def test_status_tells_of_position_next_step_halts_and_errors(person: Person):
    person.at("2024-11-05", 20).types("run --if-due")
    person.types("halt --why holidays --allow-exits")
    working = person.types("status --json").document
    person.at("2024-11-05", -20).types("run --if-due")
    text = person.types("status").out

    order = {"key": "mtum-eod/simulated/SIMULATED/MTUM/2024-11-05/BUY", "shares": 23, "status": "working"}
    assert ([order], ["holidays"]) == (working["open_orders"], [halt["why"] for halt in working["halts"]])
    assert "settle" == working["next"]["step"]
    for words in ("simulated / SIMULATED / MTUM on synthetic data", "since 2024-11-05", "holidays (by "):
        assert words in text


def test_status_tells_what_was_won_and_lost_and_the_next_step_beside_the_one_due(person: Person):
    """One position sold, another held: the figures of the view, at the close that was settled last."""
    person.types("run --from 2024-01-02 --to 2024-01-31")
    person.at("2024-02-01", 20)
    text, equity = person.types("status").out, person.types("status --json").document["equity"]
    [(realised, unrealised)] = person.sql("SELECT realised, unrealised FROM equity ORDER BY session DESC LIMIT 1")

    assert (True, realised, unrealised) == (bool(realised and unrealised), equity["realised"], equity["unrealised"])
    assert f"realised {realised:+,.2f} USD, unrealised {unrealised:+,.2f}" in text
    assert "due now: decide of 2024-02-01" in text
    assert "settle of 2024-02-01, 2024-02-01 16:20 New York" in text


def test_the_owners_zone_is_shown_beside_the_exchanges(person: Person):
    person.environment["MTUM_EOD_SCHEDULE__TIMEZONE"] = "Asia/Tokyo"
    person.at("2024-11-05", 130)

    assert "2024-11-05 14:00 New York (Wed 04:00 Tokyo)" in person.types("run --if-due").out


def test_what_the_owner_is_asked_and_told_to_wait_for_is_in_their_zone_too(person: Person):
    """The message on the phone names no time that has to be worked out first."""
    person.environment |= {"MTUM_EOD_SCHEDULE__TIMEZONE": "Europe/Berlin", "MTUM_EOD_RISK__REQUIRE_CONFIRMATION": "yes"}
    person.at("2024-11-05", 400)
    sale, answer = person.types("flatten --yes").err, person.types("approve").err
    person.at("2024-11-05", 60).types("run")
    [(question,)] = person.sql("SELECT words FROM notice WHERE event = 'approval'")

    assert "sell on 2024-11-05, 09:30 New York (15:30 Berlin) to 15:45 New York (21:45 Berlin)" in sale
    assert "it is decided at 15:00 New York (21:00 Berlin), and asked then" in answer
    assert "`mtum-eod approve --no` by 15:45 New York (21:45 Berlin), 45 minutes from now" in question


# -- hands on the wheel -----------------------------------------------------------------------------------------------


def test_halt_and_resume(person: Person):
    person.at("2024-11-05", 60)
    halted = person.types("halt --why 'away this week' --json").document
    person.at("2024-11-05", 20)
    blocked = person.types("run --json").document
    lifted = [person.types("resume --why 'back again' --json").document for _ in range(2)]

    assert [("resume", "back again")] == person.sql("SELECT act, words FROM owner_act")
    assert {"halted": True, "words": ["halted: no orders at all"]} == halted
    assert ("BUY", "halted", None) == (blocked["action"], blocked["blocked_by"], blocked["order"])
    assert [{"lifted": 1}, {"lifted": 0}] == lifted


def test_the_word_alone_halts(person: Person):
    """On a telephone, in a hurry."""
    assert 0 == person.types("halt").exit_code
    assert [("no reason given", 0)] == person.sql("SELECT why, allow_exits FROM halt")


def test_halt_withdraws_a_working_order_in_time(person: Person):
    person.at("2024-11-05", 20).types("run")
    said = person.at("2024-11-05", 16).types("halt --why doubt --cancel").out
    person.at("2024-11-05", -20).types("settle")

    assert "withdrawn: mtum-eod/simulated/SIMULATED/MTUM/2024-11-05/BUY" in said
    assert [("cancelled", 0)] == person.sql("SELECT status, (SELECT count(*) FROM fills) FROM order_intent")


def test_cash_that_is_paid_in_is_sized_on(person: Person):
    """5,000 + 1,000 USD, capped at 5,000: the cap on the position stays; the cash view grows."""
    person.types("run --date 2024-11-04")
    said = person.types("cash add deposit 1000 --note bonus").out
    fee = person.types("cash add fee 10.5 --json").document

    assert "deposit of 1,000.00 USD recorded; sizing equity is now 6,000.00 USD\n" == said
    assert {"kind": "fee", "amount": 10.5, "sizing_equity": 5989.5, "cash": 5989.5} == fee


@pytest.mark.parametrize("day", ["2024-11-05", "2024-11-06", "2024-11-07"])
def test_money_may_be_told_of_when_its_day_is_marked_already(person: Person, day: str):
    """A dividend typed in the evening, or days later: marks, cash and checks go on agreeing."""
    for session in ("2024-11-05", "2024-11-06", "2024-11-07"):
        person.at(session, 20).types("run")
        person.at(session, -21).types("settle")
    before = dict(person.sql("SELECT session, value FROM equity_mark"))
    person.types(f"cash add dividend 4.20 --date {day}")
    after = dict(person.sql("SELECT session, value FROM equity_mark"))

    assert {s: round(v + 4.20 * (s >= day), 6) for s, v in before.items()} == {s: round(v, 6) for s, v in after.items()}
    assert [] == person.types("db check --json").document["findings"]


def test_money_from_before_the_book_is_its_capital(person: Person):
    person.at("2024-11-05", 20).types("run")
    refused = person.types("cash add deposit 100 --date 2024-11-04 --json")

    assert (2, "2024-11-04 lies before the book's first session, 2024-11-05") == (
        refused.exit_code,
        refused.error["message"],
    )


# -- a range ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived_quarter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book of sixty-odd sessions of the sample, run and settled."""
    place = replace(work_in(tmp_path_factory.mktemp("quarter"), {}), clock=FakeClock(MORNING))
    live(place, "2024-07-01", "2024-09-30")
    return place.database


@pytest.fixture
def quarter(person: Person, lived_quarter: Path) -> Person:
    """Someone with a copy of it."""
    copyfile(lived_quarter, person.database)
    return person


def test_a_range_is_one_row_a_session_and_goes_on_where_it_was(quarter: Person):
    before = quarter.sql("SELECT * FROM signal")
    again = quarter.types("run --from 2024-07-01 --to 2024-10-04 --json")

    assert (0, 68, 64) == (again.exit_code, again.document["sessions"], again.document["already_done"])
    assert before == quarter.sql("SELECT * FROM signal")[: len(before)]
    assert [(68, 68, 68)] == quarter.sql("SELECT count(*), sum(settled), count(DISTINCT session) FROM sessions")
    assert [] == quarter.types("db check --json").document["findings"]


# -- records and upkeep -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["trades", "fills", "signals", "equity"])
def test_an_export_is_the_view(quarter: Person, what: str):
    view = quarter.sql(f"SELECT * FROM {what}")  # noqa: S608
    names = [name for (name,) in quarter.sql(f"SELECT name FROM pragma_table_info('{what}')")]  # noqa: S608
    typed = quarter.types(f"export {what}")
    as_json = json.loads(quarter.types(f"export {what} --format json").out)
    as_csv = list(csv.reader(io.StringIO(typed.out)))

    assert len(view) > 0
    assert "SYNTHETIC data: made up, no market's\n" == typed.err  # beside the records, which programs read
    assert [dict(zip(names, row, strict=True)) for row in view] == as_json
    assert [names, *[["" if cell is None else str(cell) for cell in row] for row in view]] == as_csv


def test_an_export_of_a_year_has_that_years_rows(quarter: Person):
    rows = {year: json.loads(quarter.types(f"export equity --format json --year {year}").out) for year in (2023, 2024)}

    assert ([], 64) == (rows[2023], len(rows[2024]))


def test_there_is_nothing_to_export_without_a_database(person: Person):
    typed = person.types("export trades")

    assert (7, "") == (typed.exit_code, typed.out)
    assert "there is no database" in typed.err
    assert "mtum-eod run" in typed.err


def test_bars_are_imported_once(person: Person):
    first = person.types("data import --from 2024-01-02 --json").document
    second = person.types("data import --from 2024-01-02").out

    assert 2 * len(calendar().sessions(date(2024, 1, 2), date(2024, 11, 5))) == first["written"]
    assert "0 rows new or changed in the database" in second


def test_bars_are_shown_with_the_vix_beside_them(person: Person):
    rows = person.types("data show --last 3 --json").document
    replayed = person.types("run --date 2024-11-05 --dry-run --json").document

    assert ["2024-11-01", "2024-11-04", "2024-11-05"] == [row["session"] for row in rows]
    assert (replayed["close"], replayed["vix"]) == (rows[-1]["close"], rows[-1]["vix"])


BARS = ["data show --last 2", "data check --from 2024-10-01", "data import --from 2024-10-01"]


def marks(person: Person, command: str) -> tuple[bool, set[tuple[str, bool]]]:
    """Whether the mark stands in the words for a person, and source and mark in the documents for programs."""
    documents = person.types(f"{command} --json").document
    documents = documents if isinstance(documents, list) else documents.get("symbols", [documents])
    shown = person.types(command).out
    return "  SYNTHETIC data" in shown, {(one["source"], one["synthetic"]) for one in documents}


@pytest.mark.parametrize("command", [*BARS, "run --from 2024-11-04 --to 2024-11-05"])
def test_made_up_bars_are_marked_wherever_they_appear(person: Person, command: str):
    assert (True, {("sample", True)}) == marks(person, command)


@pytest.mark.parametrize("command", [*BARS, "run --from 2024-11-04 --to 2024-11-05"])
def test_real_bars_bear_no_mark(person: Person, command: str):
    person.csv()

    assert (False, {("csv", False)}) == marks(person, command)


def test_a_settlement_on_made_up_bars_is_marked(person: Person):
    person.types("run --date 2024-11-04")
    said = person.types("settle").out
    person.types("run --date 2024-11-05")
    told = person.types("settle --json").document

    assert ["  SYNTHETIC data"] == [line[-16:] for line in said.splitlines()]
    assert [("2024-11-05", "sample", True)] == [(one["session"], one["source"], one["synthetic"]) for one in told]


def test_a_backup_brings_the_book_back(person: Person):
    person.types("run --date 2024-11-05")
    backup = person.types("db backup --json").document["backup"]
    person.types("settle")
    restored = person.types(f"db restore {backup} --json").document
    status = person.types("status --json").document

    assert 0o600 == Path(backup).stat().st_mode & 0o777
    assert ("working", None) == (status["open_orders"][0]["status"], status["position"])
    assert Path(restored["kept"]).is_file()


def test_a_restored_book_says_what_stands_and_what_is_gone(person: Person):
    person.types("run --date 2024-11-05")
    backup = person.types("db backup --json").document["backup"]
    person.types("halt --why away")
    person.types("cash add deposit 1000 --date 2024-11-05")
    restored = person.types(f"db restore {backup}").out
    halts = person.types("status --json").document["halts"]

    assert ["away"] == [halt["why"] for halt in halts]
    assert "gone, type it again: `mtum-eod cash add deposit 1000 --date 2024-11-05`" in restored
    assert "no orders at all: away; `mtum-eod resume` lifts it" in restored


@pytest.mark.parametrize(("name", "code"), [("none.db", 7), ("settings.toml", 7)])
def test_what_is_no_backup_is_not_restored(person: Person, name: str, code: int):
    person.settings("")
    person.types("run --date 2024-11-05")
    before = person.database.read_bytes()
    typed = person.types(f"db restore {name} --json")

    assert (code, "store", before) == (typed.exit_code, typed.error["code"], person.database.read_bytes())


def test_a_backup_that_is_not_there_is_answered_with_the_newest_there_is(person: Person):
    person.types("run --date 2024-11-05")
    without = person.types("db restore nothere.db --json").error
    made = [person.types("db backup --json").document["backup"] for _ in range(2)]
    beside = person.types("db restore nothere.db --json").error

    assert {"nothere.db: there is no such backup"} == {without["message"], beside["message"]}
    assert (True, f"the newest is {made[-1]}") == ("backup.dir says where" in without["hint"], beside["hint"])


def test_upgrade_says_what_was_there(person: Person):
    documents = [person.types("db upgrade --json").document for _ in range(2)]

    assert [None, "0004"] == [document["before"] for document in documents]
    assert "is up to date" in person.types("db upgrade").out


def test_check_finds_what_does_not_add_up(person: Person):
    person.types("run --date 2024-11-05")
    person.types("settle")
    sound = person.types("db check")
    with sqlite3.connect(person.database) as db:
        db.execute("UPDATE equity_mark SET cash = cash + 1")
    db.close()
    typed = person.types("db check --json")

    assert (0, 7) == (sound.exit_code, typed.exit_code)
    assert "equity of 2024-11-05: cash is" in typed.document["findings"][0]


def test_settings_are_shown_with_their_origin_and_without_secrets(person: Person):
    person.settings("capital = 8000\n")
    person.environment |= {
        "MTUM_EOD_NOTIFICATIONS__URLS": '["mailto://me:hunter2@example.com"]',
        "MTUM_EOD_STRATEGY__MA_PERIOD": "40",
    }
    document = person.types("config show --json").document
    text = person.types("config show").out

    assert (8000, 40) == (document["settings"]["capital"], document["settings"]["strategy"]["ma_period"])
    assert ["settings.toml", "environment MTUM_EOD_STRATEGY__MA_PERIOD", "default"] == [
        Path(document["origins"][key]).name for key in ("capital", "strategy.ma_period", "symbol")
    ]
    assert "hunter2" not in text + json.dumps(document)


def test_each_column_of_the_settings_shown_holds_what_its_head_says(person: Person):
    person.environment |= {"MTUM_EOD_STRATEGY__MA_PERIOD": "40"}
    heads, *rows = person.types("config show").out.splitlines()
    [line] = [row for row in rows if row.startswith("strategy.ma_period ")]

    assert ["key", "from", "value"] == heads.split()
    assert ["environment MTUM_EOD_STRATEGY__MA_PERIOD", "40"] == [
        line[heads.index("from") : heads.index("value")].strip(),
        line[heads.index("value") :].strip(),
    ]


def test_good_settings_are_called_good(person: Person):
    defaults = person.types("config check").out
    person.settings("capital = 8000\n")
    document = person.types("config check --json").document

    assert "settings are good (built-in defaults)\n" == defaults
    assert (True, "settings.toml") == (document["ok"], Path(document["file"]).name)


# -- help -------------------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    found = []
    for name, command in cli.commands.items():
        found.append(name)
        found += [f"{name} {sub}" for sub in getattr(command, "commands", {})]
    return found


@pytest.mark.parametrize("command", commands())
def test_help_says_what_a_command_does_with_an_example(person: Person, command: str):
    typed = person.types(f"{command} --help")

    assert (0, True) == (typed.exit_code, f"mtum-eod {command.split()[0]}" in typed.out.partition("Usage")[2][10:])


def test_the_program_says_its_name_and_how_to_start(person: Person):
    help_, version = person.types("--help").out, person.types("--version").out

    assert "mtum-eod run --date 2024-11-05 --dry-run" in help_
    assert help_.index("run ") < help_.index("halt ") < help_.index("export ")
    assert version.startswith("mtum-eod, version ")


# -- replay -----------------------------------------------------------------------------------------------------------


def test_a_recorded_session_replays_to_the_same_values(quarter: Person):
    recorded = {row[0]: json.loads(row[1]) for row in quarter.sql("SELECT session, document FROM signal")}
    some = [*sorted(recorded)[::9], *[day for day in recorded if recorded[day]["action"] != "HOLD"]]
    replayed = {day: quarter.types(f"run --date {day} --dry-run --json").document for day in some}

    assert {"BUY", "HOLD"} <= {recorded[day]["action"] for day in some}
    assert {day: values(recorded[day]) for day in some} == {day: values(replayed[day]) for day in some}


def test_a_decision_on_a_partial_bar_replays_on_what_was_seen_then(person: Person):
    """Decided at 15:40 on a bar that was not finished; replayed the week after."""
    live = person.at("2024-11-05", 20).types("run --json").document
    person.at("2024-11-05", -20).types("run --if-due")
    person.at("2024-11-13", -300)
    replayed = person.types("run --date 2024-11-05 --dry-run --json").document
    final = person.types("data show --date 2024-11-05 --last 1 --json").document[0]

    assert ("same_time", "2024-11-05T20:40:00Z") == (replayed["volume_basis"], replayed["as_of"])
    assert values(live) == values(replayed)
    assert final["close"] != replayed["close"]


def test_a_replay_uses_the_settings_of_the_day(person: Person):
    recorded = person.types("run --date 2024-11-05 --json").document
    person.environment["MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD"] = "12"
    replayed = person.types("run --date 2024-11-05 --dry-run --json").document
    both = person.types("run --date 2024-11-05 --dry-run --with-current-settings --json").document

    assert values(recorded) == values(replayed) == values(both[0])
    assert ("HOLD", False) == (both[1]["action"], both[1]["vix_stable"])
    assert "settings of today" in person.types("run --date 2024-11-05 --dry-run --with-current-settings").out


def test_a_replay_uses_the_bars_of_the_day(person: Person):
    """The vendor revises an old close; the decision was made on the one before."""
    files = person.csv()
    recorded = person.types("run --date 2024-11-05 --json").document
    cells = files.mtum[-20].split(",")
    files.mtum[-20] = ",".join([cells[0], "150.00", "151.00", "149.00", "150.00", "150.00", cells[6]])
    files.write()
    person.types("data import")
    replayed = person.types("run --date 2024-11-05 --dry-run --json").document
    current = person.types("data show --last 20 --json").document[0]

    assert 150.0 == current["close"]
    assert values(recorded) == values(replayed)


def test_a_replay_of_a_held_position_shows_it_as_it_was(quarter: Person):
    held = "SELECT session, document FROM signal WHERE json_extract(document, '$.position') IS NOT NULL LIMIT 1"
    [(session, text)] = quarter.sql(held)
    replayed = quarter.types(f"run --date {session} --dry-run --json").document

    assert replayed["position"] is not None
    assert values(json.loads(text)) == values(replayed)


def test_an_unrecorded_session_replays_on_final_bars_and_flat(person: Person):
    typed = person.types("run --date 2024-11-05 --dry-run")

    assert "final bars, position assumed flat (no history)" in typed.out


def test_a_position_can_be_supposed(person: Person):
    """190 + 4 x 4.43 = 207.72, and the session closed at 207.74."""
    typed = person.types("run --date 2024-11-05 --dry-run --position 19@190 --entry-atr 4.43 --json")
    kept = person.types("run --date 2024-11-05 --dry-run --position 19@190 --entry-atr 4.44 --json")

    assert ("SELL", ["atr_profit"], 19) == (
        typed.document["action"],
        typed.document["exit_reasons"],
        typed.document["shares"],
    )
    assert pytest.approx(207.72) == typed.document["position"]["target"]
    assert ("HOLD", []) == (kept.document["action"], kept.document["exit_reasons"])


def test_explain_shows_the_order_that_a_recorded_session_had(person: Person):
    """A replay sends nothing; what is explained is the day that was."""
    person.types("run --from 2024-11-05 --to 2024-11-05")
    typed = person.types("explain --date 2024-11-05")
    replayed = person.types("run --date 2024-11-05 --dry-run")

    assert "  BUY 23 MTUM market-on-close, about 4,778.02 USD, filled\n" in typed.out
    assert "dry run" not in typed.out
    assert "4,778.02 USD, not sent (dry run)\n" in replayed.out


def test_explain_spells_out_each_rule(person: Person):
    document = person.types("explain --date 2024-11-05 --json").document
    text = person.types("explain --date 2024-11-05").out

    assert ["trend_bullish", "vix_stable", "rsi_bullish", "volume_confirm"] == [r["rule"] for r in document["rules"]]
    assert {"value": 16.12, "relation": "<", "threshold": 25.0, "holds": True} == {
        key: document["rules"][1][key] for key in ("value", "relation", "threshold", "holds")
    }
    # 16.12 / 25 - 1, and 207.74 + 1 % + 0.1 %
    assert pytest.approx(-35.52) == document["rules"][1]["distance_pct"]
    assert "/ 210.03 a share" in text
