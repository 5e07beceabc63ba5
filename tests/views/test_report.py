"""The owner's report: figures as the database's views have them, and a page that a real browser opens from disk."""

import base64
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from book_by_hand import at, write_book
from fakes import ArrayData, Bench, calendar

from mtum_eod.core.review import Period, Review
from mtum_eod.core.trading import CashFlow, CashKind, Halt, Split
from mtum_eod.errors import MarketDataError, SettingsError
from mtum_eod.jobs.backtest import Backtest, run_backtest
from mtum_eod.jobs.decision_noise import with_decision_noise
from mtum_eod.jobs.report import document, review_backtest, review_book
from mtum_eod.views import files, text
from mtum_eod.views.figures import figures
from mtum_eod.views.html import page, pct, plain

NOW = datetime(2024, 11, 22, 18, 30, tzinfo=UTC)
SCRIPT = "<script>alert(1)</script>"
CHARTS = ["equity", "drawdown", "price", "rsi", "vix", "paths", "reasons"]


def no_progress(*_: object) -> None:
    """Nobody watches."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The book by hand, on bars that know January 2024."""
    made = Bench(tmp_path / "book.db", data=ArrayData())
    write_book(made.store)
    made.store.halt(Halt(halted_at=at("01-16"), why=f"{SCRIPT} away", by="owner", allow_exits=False))
    flow = CashFlow(kind=CashKind.FEE, amount_usd=5.0, session=at("01-16").date(), note=f"{SCRIPT} data")
    made.store.add_cash_flow(flow, at("01-16"))
    yield made
    made.store.close()


def reviewed(bench: Bench, period: Period = Period.ALL, monthly_costs: float = 5.0) -> Review:
    return review_book(bench.desk, period, monthly_costs, no_progress)


def usd(amount: float) -> Any:
    return pytest.approx(amount, abs=1e-6)


# -- the book by hand -------------------------------------------------------------------------------------------------


def test_trades_are_those_of_the_view(bench: Bench):
    """203.792 and -67.473 net; costs 2 + 1.32 + 0.888 and 2.268 + 2.205."""
    told = document(reviewed(bench))
    view = bench.sql("SELECT sum(net_pnl), sum(gross_pnl), sum(costs), sum(net_pnl > 0), count(*) FROM trades")

    assert [(usd(136.319), usd(145.0), usd(8.681), 1, 2)] == view
    names = ("total_pnl", "gross_pnl", "costs", "wins", "trades")
    assert view == [tuple(usd(told["metrics"][name]) for name in names)]


def test_each_trade_has_the_names_and_numbers_of_the_view(bench: Bench):
    columns = "entry_session, entry_price, shares, entry_atr, exit_session, exit_price, exit_reason, days, sessions"
    rows = bench.sql(f"SELECT {columns} FROM trades")  # noqa: S608 (names from above)
    told = document(reviewed(bench))["trades"]

    assert rows == [tuple(trade[name] for name in columns.split(", ")) for trade in told]


def test_equity_is_that_of_the_view_and_its_return_is_without_the_deposit(bench: Bench):
    """6,136.319 in the end, of which 1,000 were paid in: 5,136.319 grew out of 5,000."""
    told = document(reviewed(bench))

    assert bench.sql("SELECT session, value FROM equity") == [
        (each["session"], each["value"]) for each in told["equity"]
    ]
    assert usd(136.319 / 5000) == told["metrics"]["total_return"]


def test_drift_ledger_and_runs_are_counted(bench: Bench):
    """Two decisions held against their final bars, one differs; ten sessions due; one of nine runs failed."""
    told = document(reviewed(bench))

    assert {"compared": 2, "differing": [{"session": "2024-01-09", "action": "BUY", "drift_action": "HOLD"}]} == told[
        "drift"
    ]
    assert {"decided": 8, "skipped": 1, "missed": 1} == told["sessions"]
    assert ("decide", 9, 1, 2, 2.0) == tuple(
        told["steps"][0][name] for name in ("step", "runs", "failed", "retries", "median_seconds")
    )


def test_exits_are_told_by_reason(bench: Bench):
    assert [("atr_profit", 1, usd(203.792)), ("trend", 1, usd(-67.473))] == [
        (line["reason"], line["trades"], line["net_pnl"]) for line in document(reviewed(bench))["exit_reasons"]
    ]


def test_a_period_looks_back_from_the_last_settled_session(bench: Bench):
    """A week to 01-16 begins on 01-10 with 5,201.524; the one trade that ended in it lost 67.473."""
    told = document(reviewed(bench, Period.WEEK))

    assert ("2024-01-10", "2024-01-16", usd(5201.524)) == (told["from"], told["to"], told["capital"])
    assert (1, usd(-67.473)) == (told["metrics"]["trades"], told["metrics"]["total_pnl"])


def test_a_period_is_held_against_the_fund_from_the_same_close(bench: Bench):
    """The week's book begins at the close of 01-09, and so does the fund: 7 days, over both of them."""
    found = reviewed(bench, Period.WEEK)
    closes = bench.data.frames["MTUM"]["close"]
    grown = closes.loc["2024-01-16"] / closes.loc["2024-01-09"]

    assert pytest.approx(grown - 1) == found.benchmark.total_return
    assert pytest.approx(grown ** (365.25 / 7) - 1) == found.benchmark.cagr
    assert pytest.approx(7 / 365.25) == found.metrics.years
    assert "at the close of 2024-01-09, the session before" in page(found, NOW)


def test_a_week_is_too_short_to_say_wherever_it_is_told(bench: Bench):
    """On the terminal, in JSON and on the page; two weeks of book are no year either."""
    found = reviewed(bench, Period.WEEK)
    of_the_week = [line for line in document(found)["expectations"] if line["range"] == "this week"]
    html = page(found, NOW)

    assert "less than a year: annual figures are this range drawn out" in text.review(found)
    assert [("too short to say", None)] * 5 == [(line["verdict"], line["holds"]) for line in of_the_week]
    assert (0, 10) == tuple(
        text.review(found).split("whole history")[0].count(w) for w in ("as published", "too short")
    )
    assert (
        "<li>Too short to say: annual return, win rate, days a trade, trades a year and maximum drawdown.</li>" in html
    )
    assert "<li>So few trades (1) prove little: read each rate with its interval, not alone.</li>" in html


def test_figures_beside_the_published_ones_are_said_in_sentences(bench: Bench):
    """Most of a year, in which nothing was bought: bars whose volume never exceeds its mean."""
    desk = bench.desk
    html = page(review_backtest(desk, run_backtest(desk, None, None, no_progress), 0.0, no_progress), NOW)

    assert (
        "<li>Too short to say: annual return, trades a year and maximum drawdown. "
        "Nothing to measure: win rate and days a trade.</li>"
    ) in html
    assert "So few trades" not in html


def test_the_open_position_is_told_beside_the_trades(bench: Bench):
    held = document(reviewed(bench))["open_position"]

    assert ("2024-01-16", 107.0, 10, 2.2) == tuple(
        held[name] for name in ("entry_session", "entry_price", "shares", "entry_atr")
    )


def test_whole_history_stands_beside_the_period(bench: Bench):
    """Three ranges: the week, the book, and the rules played over all that the source knows."""
    labels = [label for label, _ in reviewed(bench, Period.WEEK).subject.expectations]

    assert ["this week", "the whole book"] == labels[:2]
    assert labels[2].startswith("whole history, backtest ")


def test_a_book_without_a_settled_session_says_so(tmp_path: Path):
    bench = Bench(tmp_path / "empty.db")

    with pytest.raises(SettingsError, match="no session of this book is settled") as refused:
        reviewed(bench)
    assert "backtest --html" in refused.value.hint
    bench.store.close()


def test_trades_closed_before_a_split_are_marked_on_todays_scale(bench: Bench):
    """Two for one on 01-17: bought at 100.00 and 108.00 long ago, and the shares held, at 107.00, follow it."""
    bench.store.split(Split(session=at("01-17").date(), ratio=2.0), at("01-17"))
    found = reviewed(bench)

    assert [50.0, 54.0, 53.5] == figures(found)["price"]["data"][2]["y"]
    assert [100.0, 108.0] == [trade["entry_price"] for trade in document(found)["trades"]]


def test_a_source_that_cannot_be_read_gives_way_to_the_kept_bars(bench: Bench):
    """The report still comes, from the bars in the book, and says so; without any there is nothing to draw."""
    day = at("01-16").date()
    kept = [bench.data.daily(symbol, day.replace(day=2), day, NOW) for symbol in ("MTUM", "VIX")]
    bench.data.down = {"MTUM"}
    with pytest.raises(MarketDataError):
        reviewed(bench)
    bench.store.add_bars(kept)

    assert "the bars kept in the book are shown" in reviewed(bench).subject.notes[0]


def test_the_terminal_shows_the_same_figures(bench: Bench):
    said = text.review(reviewed(bench))

    assert "net 136.32 USD: gross 145.00, costs 8.68" in said
    assert "drift  1 of 2 decisions not what" in said
    assert "ledger 8 decided, 1 missed, 1 skipped" in said


# -- the page ---------------------------------------------------------------------------------------------------------


def test_what_people_typed_is_escaped(bench: Bench):
    """A halt reason and a note that are HTML stay words."""
    html = page(reviewed(bench), NOW)

    assert 0 == html.count(SCRIPT)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; away" in html
    assert '<td data-key="&lt;script&gt;alert(1)&lt;/script&gt; data"' in html


def test_synthetic_data_are_marked_at_the_top_and_at_the_end(bench: Bench):
    real = reviewed(bench)
    synthetic = replace(real, subject=replace(real.subject, is_synthetic=True))

    assert (0, 2) == (page(real, NOW).count("SYNTHETIC"), page(synthetic, NOW).count("SYNTHETIC"))


def test_a_range_without_a_trade_says_so_instead_of_drawing_nothing(bench: Bench):
    """Bars whose volume never exceeds its mean."""
    desk = bench.desk
    html = page(review_backtest(desk, run_backtest(desk, None, None, no_progress), 0.0, no_progress), NOW)

    assert "No trade was closed in this range." in html
    assert (0, 0) == (html.count('id="paths"'), html.count('id="reasons"'))


def test_the_page_shows_the_band_of_deciding_early_where_it_was_asked_for(bench: Bench):
    """Three trials on a history that buys nothing: the band stands still, and the page says what it assumes."""
    desk = bench.desk
    plain = run_backtest(desk, None, None, no_progress)
    asked = with_decision_noise(desk, plain, 3, no_progress)
    without, with_band = (page(review_backtest(desk, done, 0.0, no_progress), NOW) for done in (plain, asked))

    assert (0, 1) == tuple(html.count("Decided 20 minutes before the close, 3 trials") for html in (without, with_band))
    assert "sessions that decided otherwise" in with_band


def test_the_page_says_where_total_return_is_not_known(bench: Bench):
    assert "Prices only on both sides: this source (arrays) does not tell dividends." in page(reviewed(bench), NOW)


@pytest.mark.parametrize("absent", ["jinja2", "plotly"])
def test_without_the_extra_the_cure_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch, absent: str):
    found = reviewed(bench)
    monkeypatch.setitem(sys.modules, absent, None)

    with pytest.raises(SettingsError) as refused:
        page(found, NOW)
    assert "pip install 'mtum-eod[report]'" == refused.value.hint


def test_numbers_read_well():
    """A true minus, no minus before a zero, a dash for what is not known, and no break before the percent."""
    nan = float("nan")

    assert ["−1,234.50", "0.00", "–"] == [plain(value, 2) for value in (-1234.5, -0.001, nan)]
    assert ["12.3\u00a0%", "–"] == [pct(0.1234), pct(nan)]


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_is_its_owners_alone_and_replaces_the_one_before(tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("old")
    files.write(path, b"new")

    assert (b"new", 0o600, [path]) == (path.read_bytes(), path.stat().st_mode & 0o777, list(tmp_path.iterdir()))


@pytest.mark.parametrize("name", ["absent/report.html", "."])
def test_a_place_that_takes_no_file_is_named(tmp_path: Path, name: str):
    with pytest.raises(SettingsError, match="cannot be written") as refused:
        files.write(tmp_path / name, b"new")
    assert "./report.html" in refused.value.hint


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C while the file goes to disk: the old one stands, and no half of the new one."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", interrupted)

    with pytest.raises(KeyboardInterrupt):
        files.write(path, b"new")
    assert ("old", [path]) == (path.read_text(), list(tmp_path.iterdir()))


# -- a real browser ---------------------------------------------------------------------------------------------------

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; tests that need it are skipped where it is absent."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with its chromedriver is installed (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "data:,"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def backtested(bench: Bench) -> tuple[Backtest, Review]:
    """The rules over bars whose volume says yes every other session."""
    bench.data.frames["MTUM"]["volume"] = [1e6, 1.5e6] * 250
    desk = bench.desk
    done = run_backtest(desk, None, calendar().window(datetime(2024, 10, 31).date(), 1)[0], no_progress)  # noqa: DTZ001
    return done, review_backtest(desk, done, 0.0, no_progress)


TRACES = ".main-svg .trace, .main-svg .bars .point"
"""What a chart has once Plotly has drawn it, which takes a slow machine a while."""


def opened(browser: Any, found: Review, folder: Path, *, width: int, scheme: str = "light") -> Path:
    """Open the page from disk in a window of that width, and wait for its charts."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    path = folder / "report.html"
    files.write(path, page(found, NOW).encode())
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for log in ("browser", "performance"):
        browser.get_log(log)  # forget what was before
    browser.get(path.as_uri())
    all_drawn = f"return [...document.querySelectorAll('.chart')].every(c => c.querySelector('{TRACES}'))"
    with suppress(TimeoutException):  # the tests say what is missing
        WebDriverWait(browser, 20).until(lambda b: b.execute_script(all_drawn))
    return path


def requests(browser: Any, page_url: str) -> list[str]:
    """What the page asked for, itself first; the browser's own pages ask for things too."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in asked if each["documentURL"] == page_url]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["book", "backtest"])
def test_a_browser_draws_every_chart_from_the_file_alone(
    bench: Bench, browser: Any, tmp_path: Path, width: int, kind: str
):
    """No word on the console, no request but for the file, nothing wider than the window."""
    found = reviewed(bench) if kind == "book" else backtested(bench)[1]
    path = opened(browser, found, tmp_path, width=width)
    drawn = f"return [...document.querySelectorAll('.chart')].filter(c => c.querySelector('{TRACES}')).map(c => c.id)"
    too_wide = "return document.documentElement.scrollWidth > innerWidth"

    assert CHARTS == browser.execute_script(drawn)
    assert [] == browser.get_log("browser")
    assert [path.as_uri()] == [
        url for url in requests(browser, path.as_uri()) if not url.startswith(("data:", "blob:"))
    ]
    assert not browser.execute_script(too_wide)


def test_the_page_shows_the_numbers_of_the_json(bench: Bench, browser: Any, tmp_path: Path):
    """`backtest --json` and the cards of its page."""
    done, found = backtested(bench)
    opened(browser, found, tmp_path, width=1280)
    cards = browser.execute_script("return [...document.querySelectorAll('.cards .value')].map(c => c.textContent)")
    told = done.document["metrics"]

    assert told == document(found)["metrics"]
    assert [
        f"{plain(told['total_pnl'], 2)} USD",
        f"{plain(done.document['equity'][-1]['value'], 2)} USD",
        pct(told["cagr"]),
        f"{told['wins']} of {told['trades']}",
    ] == cards[:4]


def test_dark_mode_recolours_page_and_charts(bench: Bench, browser: Any, tmp_path: Path):
    """The same figure in the colours of the scheme, and redrawn when the owner's system changes it."""
    from selenium.webdriver.support.ui import WebDriverWait

    ink = "return document.querySelector('#equity .xtick text').style.fill"
    found = reviewed(bench)
    opened(browser, found, tmp_path, width=1280, scheme="dark")
    dark = browser.execute_script(ink)
    light_now = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", light_now)
    WebDriverWait(browser, 10).until(lambda b: b.execute_script(ink) != dark)

    assert ("rgb(152, 162, 181)", "rgb(92, 102, 122)") == (dark, browser.execute_script(ink))


def test_a_click_on_a_head_sorts_and_a_second_turns_round(bench: Bench, browser: Any, tmp_path: Path):
    """Net USD of the two trades by hand: as numbers, not as words."""
    opened(browser, reviewed(bench), tmp_path, width=1280)
    click = """
        const table = [...document.querySelectorAll('table')].find(t => t.caption.textContent === 'Closed trades');
        table.querySelector('th:last-child button').click();
        return [...table.tBodies[0].rows].map(row => row.cells[9].textContent)"""

    assert ["−67.47", "203.79"] == browser.execute_script(click)
    assert ["203.79", "−67.47"] == browser.execute_script(click)


def test_zoom_and_values_under_the_pointer(bench: Bench, browser: Any, tmp_path: Path):
    """The plus button narrows the shown range; a pointer over the curve shows its value."""
    opened(browser, reviewed(bench), tmp_path, width=1280)
    span = "const [a, b] = document.getElementById('equity').layout.xaxis.range; return new Date(b) - new Date(a)"
    before = browser.execute_script(span)
    browser.execute_script("document.querySelector('#equity .modebar-btn[data-val=in]').click()")
    browser.execute_script("Plotly.Fx.hover('equity', {xval: +new Date('2024-01-08')})")

    assert browser.execute_script(span) == before / 2
    assert "5,203.79" in browser.execute_script("return document.querySelector('#equity .hoverlayer').textContent")


def test_the_page_prints(bench: Bench, browser: Any, tmp_path: Path):
    """A PDF of some pages comes out of it."""
    opened(browser, reviewed(bench), tmp_path, width=1280)
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])

    assert printed.startswith(b"%PDF-")
    assert 2 <= printed.count(b"/Type /Page\n") <= 15
