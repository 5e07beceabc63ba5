"""Ten years of real history, lived by the job, against an account kept beside it by pandas, TA-Lib and a plain loop.

The account knows nothing of the package: it reads the raw files, takes every indicator over the whole of them, and
follows the rules as SPEC words them. 2014-06-25 is the first session with 300 bars, 2022-12-30 the last of the files.
"""

from __future__ import annotations

import json
from collections import Counter
from math import floor
from pathlib import Path
from shutil import copy
from typing import Any

import pandas as pd
import pytest
import talib
from click.testing import CliRunner
from lived import csv_settings, day, live, query, signals, work_in

from mtum_eod.cli import cli
from mtum_eod.jobs.audit import audit
from mtum_eod.jobs.backtest import run_backtest
from mtum_eod.jobs.replay import replay

FIRST, LAST = "2014-06-25", "2022-12-30"
INDICATORS = ["close", "ma_50", "rsi", "atr", "volume", "volume_ma_20", "vix"]
ENTRY_RULES = ["trend_bullish", "vix_stable", "rsi_bullish", "volume_confirm"]
DECISION = [*ENTRY_RULES, "entry_confluence", "exit_reasons", "action", "shares", "blocked_by"]
TRADE = ["entry_session", "entry_price", "shares", "exit_session", "exit_price", "exit_reason", "net_pnl"]
CENT = 0.005


# -- the account kept beside it ---------------------------------------------------------------------------------------


def measured(data: Path) -> pd.DataFrame:
    """Every indicator over the whole of the raw files, one row a session of MTUM's file."""
    bars = pd.read_csv(data / "MTUM.csv", index_col="Date")
    vix = pd.read_csv(data / "VIX.csv", index_col="DATE")["CLOSE"]
    return pd.DataFrame(
        {
            "close": bars["Close"],
            "ma_50": talib.SMA(bars["Close"], 50),
            "rsi": talib.RSI(bars["Close"], 14),
            "atr": talib.ATR(bars["High"], bars["Low"], bars["Close"], 14),
            "volume": bars["Volume"].astype("float64"),
            "volume_ma_20": talib.SMA(bars["Volume"].astype("float64"), 20),
            "vix": vix.reindex(bars.index),
        }
    )


class Account:
    """5,000 USD traded by hand on those numbers: filled at the close, 0.1 % of the value on each side."""

    def __init__(self, numbers: pd.DataFrame) -> None:
        self.cash = 5000.0
        self.shares = 0
        self.decisions: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []
        self.equity: list[float] = []
        for now in numbers.itertuples():
            self.live(now)

    def live(self, now: Any) -> None:
        rules = {
            "trend_bullish": now.close > now.ma_50,
            "vix_stable": now.vix < 25,
            "rsi_bullish": now.rsi > 50,
            "volume_confirm": now.volume > now.volume_ma_20,
        }
        said = {"entry_confluence": all(rules.values()), "exit_reasons": [], "action": "HOLD", "shares": 0}
        if self.shares:
            exits = {
                "trend": now.close < now.ma_50,
                "vix": now.vix > 30,
                "rsi": now.rsi < 30,
                "atr_profit": now.close >= self.target,
            }
            said["exit_reasons"] = [rule for rule, holds in exits.items() if holds]
            if said["exit_reasons"]:
                said |= {"action": "SELL", "shares": self.shares}
                self.sell(now, said["exit_reasons"][0])
        elif said["entry_confluence"]:
            # equity and cash are one while nothing is held, and the cap of 5,000 USD stands beside them
            shares = floor(min(self.cash, 5000.0) / (now.close * 1.01 * 1.001))
            said |= {"action": "BUY", "shares": shares}
            self.buy(now, shares)
        self.decisions.append(rules | said | {"blocked_by": None})
        self.equity.append(self.cash + self.shares * now.close)

    def buy(self, now: Any, shares: int) -> None:
        self.shares, self.bought, self.target = shares, now, now.close + 4.0 * now.atr
        self.before = self.cash
        self.cash -= shares * now.close * 1.001

    def sell(self, now: Any, reason: str) -> None:
        self.cash += self.shares * now.close * 0.999
        self.trades.append(
            {
                "entry_session": self.bought.Index,
                "entry_price": self.bought.close,
                "shares": self.shares,
                "exit_session": now.Index,
                "exit_price": now.close,
                "exit_reason": reason,
                "net_pnl": self.cash - self.before,
            }
        )
        self.shares = 0


# -- the whole history ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers(real_data: Path) -> pd.DataFrame:
    return measured(real_data).loc[FIRST:]


@pytest.fixture(scope="module")
def account(numbers: pd.DataFrame) -> Account:
    return Account(numbers)


@pytest.fixture(scope="module")
def book(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that the job leaves when it has lived through all 2,146 sessions."""
    place = work_in(tmp_path_factory.mktemp("history"), csv_settings(real_data))
    live(place, FIRST, LAST)
    return place.database


def test_the_300th_session_is_the_first_that_is_decided(real_data: Path, tmp_path: Path) -> None:
    """2014-06-24 has 299 bars: exit code 3, and the words say why. The next session has enough."""
    environ = csv_settings(real_data)
    config = ["--config", str(tmp_path / "settings.toml")]
    work_in(tmp_path, environ)
    runs = [
        CliRunner(env=environ).invoke(cli, [*config, "run", "--date", session, "--dry-run", "--json"])
        for session in ("2014-06-24", FIRST)
    ]

    assert [3, 0] == [run.exit_code for run in runs]
    said = [json.loads(run.stdout) for run in runs]
    assert ["data", None] == [document["blocked_by"] for document in said]
    assert "MTUM 2014-06-24: insufficient history: 299 sessions up to 2014-06-24, 300 needed" in said[0]["warnings"][-1]


def test_every_session_of_the_file_is_decided_and_settled(book: Path, numbers: pd.DataFrame) -> None:
    """One row a session, 2,146 of them, none skipped and none missed."""
    rows = query(book, "SELECT session, status, settled FROM sessions")

    assert [(session, "decided", 1) for session in numbers.index] == rows
    assert 2146 == len(rows)


def test_indicators_are_those_of_the_raw_file(book: Path, numbers: pd.DataFrame) -> None:
    """The job sees 400 sessions, TA-Lib here the whole file: they agree within 1e-6 relative, every one."""
    recorded = signals(book)[INDICATORS]

    pd.testing.assert_frame_equal(numbers, recorded, rtol=1e-6, atol=0, check_names=False)


def test_rules_action_and_shares_are_what_the_numbers_say(book: Path, account: Account, numbers: pd.DataFrame) -> None:
    """No decision of the 2,146 differs, and no gate had a word to say."""
    recorded = signals(book)[DECISION]
    recorded["exit_reasons"] = recorded["exit_reasons"].map(json.loads)

    assert dict(zip(numbers.index, account.decisions, strict=True)) == recorded.to_dict("index")


def test_a_recorded_session_replays_to_the_same_decision(real_data: Path, book: Path) -> None:
    """Every fortieth session, decided again from what was recorded of it: position, inputs and settings of that day."""
    place = work_in(book.parent, csv_settings(real_data))
    sessions = [row.session for row in place.reader().ledger()][::40]
    parameters = place.loaded.settings.parameters()
    outcomes = [replay(place.sources(), place.book, parameters, one, place.clock.now())[0] for one in sessions]

    recorded = [place.reader().signal(one).document | {"dry_run": True, "order": None} for one in sessions]
    assert recorded == [outcome.document for outcome in outcomes]


def test_every_trade_is_predicted_to_the_cent(book: Path, account: Account) -> None:
    """Sessions, prices, shares and reasons as they are; money to the cent."""
    rows = query(book, f"SELECT {', '.join(TRADE)} FROM trades")  # noqa: S608 (names from above)
    recorded = [dict(zip(TRADE, row, strict=True)) for row in rows]

    assert account.trades == [pytest.approx(trade, abs=CENT) for trade in recorded]


def test_a_backtest_makes_the_very_same_trades(real_data: Path, tmp_path: Path, book: Path, account: Account) -> None:
    """`backtest` over the same files: trade by trade those that the job lived and those of the account beside it."""
    done = run_backtest(work_in(tmp_path, csv_settings(real_data)).desk(), day(FIRST), day(LAST), lambda *_: None)
    tested = [{name: trade[name] for name in TRADE} for trade in done.document["trades"]]
    rows = query(book, f"SELECT {', '.join(TRADE)} FROM trades")  # noqa: S608 (names from above)

    assert [pytest.approx(dict(zip(TRADE, row, strict=True)), abs=CENT) for row in rows] == tested
    assert [pytest.approx(trade, abs=CENT) for trade in account.trades] == tested
    assert pytest.approx(account.equity, abs=CENT) == done.result.equity


def test_the_real_history_passes_its_audit(real_data: Path, tmp_path: Path) -> None:
    """The future cut off at each of its 2,146 sessions, and three shorter pasts: no decision changes."""
    found = audit(work_in(tmp_path, csv_settings(real_data)).desk(), None, None, lambda *_: None)

    assert (True, 2146, 3) == (found.passed, found.cuts, found.shortenings)


def test_equity_is_predicted_to_the_cent_at_every_close(book: Path, account: Account) -> None:
    """Cash plus shares at the close, through nine years of costs and roundings down."""
    recorded = [value for (value,) in query(book, "SELECT value FROM equity")]

    assert pytest.approx(account.equity, abs=CENT) == recorded


def test_each_exit_reason_but_the_collapse_occurs_in_real_history(book: Path) -> None:
    """Nothing above is proved on quiet days only."""
    reasons = Counter(reason for (reason,) in query(book, "SELECT exit_reason FROM trades"))

    assert {"trend", "vix", "atr_profit"} == set(reasons)


# -- a year, by SQL alone ---------------------------------------------------------------------------------------------

# Every session's book, worked out again from nothing but executions and closes.
REBUILT = """
    WITH rebuilt AS (
        SELECT
            mark.session,
            (SELECT capital_usd FROM book) - coalesce((
                SELECT sum(CASE side WHEN 'BUY' THEN 1 ELSE -1 END * shares * price_usd + commission_usd)
                FROM execution WHERE execution.session <= mark.session
            ), 0) AS cash,
            coalesce((
                SELECT sum(CASE side WHEN 'BUY' THEN 1 ELSE -1 END * shares)
                FROM execution WHERE execution.session <= mark.session
            ), 0) AS held,
            (
                SELECT close FROM bar WHERE symbol = 'MTUM' AND bar.session = mark.session
                ORDER BY revision DESC LIMIT 1
            ) AS close
        FROM equity AS mark
    )
"""

# What must come back empty, whatever was traded. The names are the claims.
CLAIMS = {
    "no session has two orders": "SELECT session FROM order_intent GROUP BY session HAVING count(*) > 1",
    "nor two at the broker": "SELECT session FROM simulated_order GROUP BY session HAVING count(*) > 1",
    "nor two executions": "SELECT session FROM fills GROUP BY session HAVING count(*) > 1",
    "every order was executed whole, on its own session and side": """
        SELECT * FROM order_intent LEFT JOIN fills ON fills.session = order_intent.session
        WHERE (order_intent.shares, order_intent.side, status) IS NOT (quantity, action, 'filled')""",
    "the broker knows every order": """
        SELECT reference, order_id, shares, side FROM order_intent
        EXCEPT SELECT reference, order_id, shares, side FROM simulated_order""",
    "and no other": """
        SELECT reference, order_id, shares, side FROM simulated_order
        EXCEPT SELECT reference, order_id, shares, side FROM order_intent""",
    "every order comes from its session's signal": """
        SELECT * FROM signals LEFT JOIN order_intent ON order_intent.session = signals.session
        WHERE (action <> 'HOLD') <> (reference IS NOT NULL)
            OR reference IS NOT NULL AND (action, signals.shares) IS NOT (side, order_intent.shares)""",
    "every execution is at the close, and costs 0.1 % of its value": """
        SELECT * FROM fills JOIN bar ON bar.session = fills.session AND bar.symbol = fills.symbol
        WHERE price <> close OR abs(commission - 0.001 * value) > 1e-9""",
    "round trips are what their executions add up to": """
        SELECT * FROM trades WHERE abs(net_pnl - (
            SELECT sum(CASE action WHEN 'SELL' THEN value ELSE -value END - commission)
            FROM fills WHERE session BETWEEN entry_session AND exit_session)) > 0.005""",
    "round trips follow one another": """
        SELECT * FROM trades JOIN trades AS next ON next.entry_session > trades.entry_session
        WHERE next.entry_session <= trades.exit_session""",
    "cash and shares of each session are what the executions left": f"""
        {REBUILT} SELECT * FROM rebuilt JOIN equity USING (session)
        WHERE abs(rebuilt.cash - equity.cash) > 0.005 OR abs(held * close - position_value) > 0.005
            OR abs(rebuilt.cash + held * close - value) > 0.005 OR held < 0 OR rebuilt.cash < 0""",  # noqa: S608 (constant text)
    "equity is capital and what was won, closed and open": """
        SELECT * FROM equity WHERE abs((SELECT capital_usd FROM book) + realised + unrealised - value) > 0.005""",
    "what was won and closed is the round trips up to then": """
        SELECT * FROM equity WHERE abs(realised - (
            SELECT coalesce(sum(net_pnl), 0) FROM trades WHERE exit_session <= session)) > 0.005""",
    "the position is what was bought and not sold": """
        SELECT coalesce(sum(CASE action WHEN 'BUY' THEN quantity ELSE -quantity END), 0) AS held FROM fills
        EXCEPT SELECT coalesce(sum(shares), 0) FROM position""",
}


@pytest.fixture(scope="module")
def year(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that `mtum-eod run --from 2019-01-02 --to 2019-12-31` leaves."""
    folder, environ = tmp_path_factory.mktemp("year"), csv_settings(real_data)
    database = work_in(folder, environ).database
    asked = ["--config", str(folder / "settings.toml"), "run", "--from", "2019-01-02", "--to", "2019-12-31"]
    assert 0 == CliRunner(env=environ).invoke(cli, asked).exit_code
    return database


def test_a_year_has_one_ledger_row_a_session(year: Path, numbers: pd.DataFrame) -> None:
    """252 sessions, as many as the file has rows; all decided and settled, each marked once."""
    rows = query(year, "SELECT session, status, settled FROM sessions")

    assert [(day, "decided", 1) for day in numbers.loc["2019-01-02":"2019-12-31"].index] == rows
    assert 252 == len(rows) == len(query(year, "SELECT session FROM equity"))


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_year_agrees_with_itself_by_sql_alone(year: Path, claim: str) -> None:
    """Each claim is a query for what would contradict it."""
    assert [] == query(year, CLAIMS[claim])


def test_the_claims_are_about_something(year: Path) -> None:
    """The year has round trips, and ends with shares held: no claim above holds for want of rows."""
    assert [(9, 19, 1)] == query(
        year, "SELECT (SELECT count(*) FROM trades), (SELECT count(*) FROM fills), (SELECT count(*) FROM position)"
    )


# -- the files' own faults --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faults(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What `mtum-eod data check --json` finds in the real files, by kind."""
    folder, environ = tmp_path_factory.mktemp("faults"), csv_settings(real_data)
    work_in(folder, environ)
    asked = ["--config", str(folder / "settings.toml"), "data", "check", "--to", LAST, "--json"]
    done = CliRunner(env=environ).invoke(cli, asked)
    assert 0 == done.exit_code
    found: dict[str, list[dict[str, Any]]] = {}
    for symbol in json.loads(done.stdout)["symbols"]:
        for finding in symbol["findings"]:
            found.setdefault(finding["kind"], []).append(finding)
    return found


def test_data_check_names_the_sessions_without_volume(faults: dict[str, Any]) -> None:
    """Nobody traded the fund on two of its first days."""
    assert [
        "MTUM 2013-04-19: volume 0 at close 50.92",
        "MTUM 2013-04-22: volume 0 at close 50.92",
    ] == [finding["words"] for finding in faults["zero_volume"]]


def test_data_check_names_the_high_of_19_august_2013(faults: dict[str, Any]) -> None:
    words = {finding["session"]: finding["words"] for finding in faults["outlier"]}

    assert "MTUM 2013-08-19: high 60.10 is 14.0% above the close 52.70" == words["2013-08-19"]


def test_data_check_names_the_vix_on_holidays(faults: dict[str, Any]) -> None:
    """Since 2022 Cboe computes the VIX on days when the stock exchange is closed: from Memorial Day to Thanksgiving."""
    assert [
        "VIX 2022-05-30: rows on 5 days without a session, left out: 2022-05-30 (close 26.54), "
        "2022-06-20 (close 31.03), 2022-07-04 (close 27.53), 2022-09-05 (close 25.99), 2022-11-24 (close 20.42)"
    ] == [finding["words"] for finding in faults["no_session"]]


def test_no_fault_of_the_files_is_fatal(faults: dict[str, Any]) -> None:
    assert [] == [finding for found in faults.values() for finding in found if finding["fatal"]]


def decided(database: Path, first: str, last: str) -> list[tuple[Any, ...]]:
    """What was decided in a range, without the warnings that name the faults."""
    return query(
        database,
        f"SELECT session, {', '.join(DECISION)}, reason FROM signals "  # noqa: S608 (names from above)
        f"WHERE session BETWEEN '{first}' AND '{last}'",
    )


def test_mending_the_bars_of_2013_changes_no_decision(real_data: Path, book: Path, tmp_path: Path) -> None:
    """Volumes and the high put right in a copy, over every session whose 400 bars reach back to them."""
    bars = pd.read_csv(real_data / "MTUM.csv", dtype=str)
    bars.loc[bars["Volume"] == "0", "Volume"] = "1000"
    bars.loc[bars["Date"] == "2013-08-19", "High"] = "53.10"
    bars.to_csv(tmp_path / "MTUM.csv", index=False)
    copy(real_data / "VIX.csv", tmp_path)
    seen_last = str(bars["Date"][bars.index[bars["Date"] == "2013-08-19"][0] + 399])
    mended = work_in(tmp_path, csv_settings(tmp_path))
    live(mended, FIRST, seen_last)

    assert decided(book, FIRST, seen_last) == decided(mended.database, FIRST, seen_last)


def test_leaving_out_the_vix_of_holidays_changes_no_decision(real_data: Path, tmp_path: Path) -> None:
    """May to December 2022, where such rows are, lived on the file as it is and on its sessions only."""
    vix = pd.read_csv(real_data / "VIX.csv", dtype=str)
    sessions = pd.read_csv(real_data / "MTUM.csv")["Date"]
    vix[vix["DATE"].isin(sessions)].to_csv(tmp_path / "VIX.csv", index=False)
    copy(real_data / "MTUM.csv", tmp_path)
    raw = work_in(new_folder(tmp_path / "raw"), csv_settings(real_data))
    mended = work_in(new_folder(tmp_path / "mended"), csv_settings(tmp_path))
    for place in (raw, mended):
        live(place, "2022-05-02", LAST)

    rows = decided(raw.database, "2022-05-02", LAST)
    assert rows == decided(mended.database, "2022-05-02", LAST)
    assert 169 == len(rows)


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path
