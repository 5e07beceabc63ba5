"""The account's money and shares as a terminal tells of them, and bars out of any source at the server's time."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import calendar
from plain import MTUM, VIX, Plain

from mtum_eod.adapters.csv_files import CsvData
from mtum_eod.adapters.sample import SampleData
from tws_server import NEW_YORK, Account, Server

SESSION = date(2024, 11, 5)
NOON = datetime(2024, 11, 5, 12, 0, tzinfo=NEW_YORK)


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def client(tws: Server) -> Iterator[Plain]:
    with Plain(tws.port) as plain:
        yield plain


def summary(client: Plain, tags: str) -> dict[str, str]:
    client.send(62, 1, 9, "All", tags)
    return {f"{row[4]} {row[6]}": row[5] for name, row in client.rest() if name == "accountSummary"}


def rows(message: tuple[str, list[str]]) -> list[list[str]]:
    """The bars of an answer."""
    name, fields = message
    assert "historicalData" == name, fields
    return [fields[5 + 8 * n : 13 + 8 * n] for n in range(int(fields[4]))]


# -- money ------------------------------------------------------------------------------------------------------------


def test_a_base_currency_of_euros_counts_everything_in_euros(tws: Server, client: Plain) -> None:
    """Only the ledger has the dollars; a total would lie about them."""
    tws.account.base_currency = "EUR"
    tws.account.cash = {"EUR": 4000.0, "USD": 500.0}
    tws.account.rates = {"EUR": 1.0, "USD": 0.9}

    assert {
        "TotalCashValue EUR": "4450.00",
        "AvailableFunds EUR": "4450.00",
        "CashBalance BASE": "4450.0000",
        "CashBalance EUR": "4000.0000",
        "CashBalance USD": "500.0000",
        "ExchangeRate BASE": "1.0000000",
        "ExchangeRate EUR": "1.0000000",
        "ExchangeRate USD": "0.9000000",
    } == {
        key: value
        for key, value in summary(client, "TotalCashValue,AvailableFunds,$LEDGER:ALL").items()
        if key.split()[0] in ("TotalCashValue", "AvailableFunds", "CashBalance", "ExchangeRate")
    }


def test_the_ledger_can_be_asked_for_one_currency(client: Plain) -> None:
    assert {"USD"} == {key.split()[1] for key in summary(client, "$LEDGER:USD")}


def test_the_proceeds_of_a_sale_settle_a_session_later(tws: Server, client: Plain) -> None:
    """Sold on Tuesday, settled on Wednesday."""
    tws.hold("MTUM", 19, 200.0)
    client.place(1, "SELL")
    client.names()
    tws.clock.advance(minutes=30)
    tuesday = summary(client, "TotalCashValue,SettledCash")
    tws.clock.advance(days=1)
    total = f"{10_000 + 19 * 207.74 - 1:.2f}"

    assert {"TotalCashValue USD": total, "SettledCash USD": "10000.00"} == tuesday
    assert {"TotalCashValue USD": total, "SettledCash USD": total} == summary(client, "TotalCashValue,SettledCash")


def test_figures_can_be_set_outright(tws: Server, client: Plain) -> None:
    tws.account.available_funds = 123.45
    tws.account.settled_cash = 67.0

    assert {"SettledCash USD": "67.00", "AvailableFunds USD": "123.45"} == summary(client, "AvailableFunds,SettledCash")


def test_account_updates_are_told_with_the_portfolio_and_their_end(tws: Server, client: Plain) -> None:
    """And again after a fill, as long as the client subscribes."""
    tws.hold("MTUM", 2.0, 200.0)
    client.send(6, 2, 1, "DU1234567")
    first = client.rest()
    client.place(1, kind="MKT", shares=1)
    later = client.names()
    client.send(6, 2, 0, "DU1234567")
    client.place(2, kind="MKT", shares=1)

    assert {"updateAccountValue", "updatePortfolio", "updateAccountTime", "accountDownloadEnd"} == {n for n, _ in first}
    assert (True, False) == ("updatePortfolio" in later, "updatePortfolio" in client.names())
    assert [["2", "207.43", "414.86", "200"]] == [row[13:17] for name, row in first if name == "updatePortfolio"]


def test_account_updates_can_be_asked_for_by_request(client: Plain) -> None:
    client.send(76, 1, 9, "DU1234567", "", 0)
    told = client.rest()

    assert ["USD", "10000.0000"] == [row[i] for n, row in told for i in (7, 6) if row[5:8:2] == ["CashBalance", "USD"]]
    assert "accountUpdateMultiEnd" == told[-1][0]


def test_positions_have_fractions_and_foreign_shares(tws: Server, client: Plain) -> None:
    """And news of a fill come behind it."""
    tws.hold("MTUM", 19.5, 204.1)
    tws.hold("SAP", 10, 180.0)
    client.send(61, 1)
    held = [[row[4], row[11], row[14], row[15]] for name, row in client.rest() if name == "position"]
    client.place(1, "SELL", 19, "MKT")

    assert [["MTUM", "USD", "19.5", "204.1"], ["SAP", "EUR", "10", "180"]] == held
    assert ["0.5"] == [row[14] for name, row in client.rest()[-1:] if name == "position"]


def test_a_split_multiplies_the_shares_and_divides_every_price(tws: Server, client: Plain) -> None:
    """From its session on, earlier bars included; TRADES are split-adjusted."""
    tws.hold("MTUM", 10, 200.0)
    tws.market.splits["MTUM"] = (date(2024, 11, 6), 2.0)
    before = rows(client.history(MTUM, "3 D"))[-2]
    tws.clock.set(datetime(2024, 11, 6, 12, 0, tzinfo=NEW_YORK))
    after = rows(client.history(MTUM, "3 D"))[-3]

    assert (before[0], [float(price) / 2 for price in before[1:5]], 2 * int(before[5])) == (
        after[0],
        [float(price) for price in after[1:5]],
        int(after[5]),
    )
    assert (20, 100) == (tws.positions["MTUM"].shares, tws.positions["MTUM"].avg_cost)


def test_several_accounts_can_be_managed() -> None:
    with Server(account=Account(id="U7")) as tws:
        tws.managed_accounts.append("U8")
        with Plain(tws.port) as client:
            assert "U7,U8" == client.said[0][1][2]


# -- bars -------------------------------------------------------------------------------------------------------------


def test_daily_bars_are_the_sources_and_todays_is_partial(client: Plain) -> None:
    """Equal to the sample's own, the running session included: a day over the wire is the same day."""
    source = SampleData(calendar())
    at = datetime(2024, 11, 5, 15, 40, tzinfo=NEW_YORK)
    frame = source.daily("MTUM", date(2024, 10, 1), SESSION, at).frame

    assert [
        [f"{day:%Y%m%d}", *map(float, values)] for day, values in zip(frame.index, frame.to_numpy(), strict=True)
    ] == [[row[0], *map(float, row[1:6])] for row in rows(client.history(MTUM, f"{len(frame)} D"))]


def test_minutes_add_up_to_the_day(tws: Server, client: Plain) -> None:
    """Their volume so far is the sample's, their extremes are the partial bar's."""
    bars = np.array([row[1:6] for row in rows(client.history(MTUM, "1 D", "1 min"))], dtype=float)
    today = [float(value) for value in rows(client.history(MTUM, "1 D"))[0][1:6]]
    volume = SampleData(calendar()).volume_until("MTUM", {SESSION: tws.clock.now()}, tws.clock.now())[SESSION]

    assert (370, volume) == (len(bars), bars[:, 4].sum())
    assert today == [bars[0, 0], bars[:, 1].max(), bars[:, 2].min(), bars[-1, 3], volume]


@pytest.mark.parametrize(("size", "count"), [("5 mins", 30), ("30 mins", 5), ("1 hour", 3)])
def test_intraday_bars_have_the_size_asked_for_and_end_now(tws: Server, client: Plain, size: str, count: int) -> None:
    tws.clock.set(NOON)
    bars = rows(client.history(MTUM, "1 D", size))

    assert (count, "20241105 09:30:00 US/Eastern") == (len(bars), bars[0][0])


def test_intraday_times_can_be_seconds(client: Plain) -> None:
    """Daily dates stay dates."""
    opened = datetime(2024, 11, 5, 9, 30, tzinfo=NEW_YORK)

    assert str(int(opened.timestamp())) == rows(client.history(MTUM, "1 D", "5 mins", form=2))[0][0]
    assert "20241105" == rows(client.history(MTUM, "1 D", form=2))[0][0]


def test_half_days_are_short(tws: Server, client: Plain) -> None:
    """The day after Thanksgiving closes at 13:00, and so do its orders."""
    tws.clock.set(datetime(2024, 11, 29, 12, 30, tzinfo=NEW_YORK))
    client.place(1)
    client.names()
    tws.clock.set(datetime(2024, 11, 29, 13, 30, tzinfo=NEW_YORK))
    client.names()
    client.send(9, 8, 77, *MTUM, 0, "", "", "")
    hours = client.rest()[0][1]

    assert 42 == len(rows(client.history(MTUM, "1 D", "5 mins")))
    assert [datetime(2024, 11, 29, 13, 0, 5, tzinfo=NEW_YORK)] == [execution.at for execution in tws.executions]
    assert "20241129:0930-20241129:1300" in hours[28 - 1]


@pytest.mark.parametrize(
    ("span", "end", "first", "last"),
    [
        ("3 D", "20241031 16:00:00 US/Eastern", "20241029", "20241031"),
        ("1 W", "20241031 23:59:59", "20241025", "20241031"),
        ("1 M", "20240930-21:00:00", "20240903", "20240930"),
        ("1 Y", "", "20231106", "20241105"),
    ],
)
def test_a_span_ends_where_it_is_told(client: Plain, span: str, end: str, first: str, last: str) -> None:
    bars = rows(client.history(MTUM, span, end=end))

    assert (first, last) == (bars[0][0], bars[-1][0])


@pytest.mark.parametrize(
    ("span", "size", "end"),
    [
        ("400 D", "1 day", ""),
        ("13 M", "1 day", ""),
        ("1 Q", "1 day", ""),
        ("1 D", "7 mins", ""),
        ("1 D", "1 day", "yesterday"),
    ],
)
def test_what_a_terminal_would_not_understand_is_refused(client: Plain, span: str, size: str, end: str) -> None:
    """More than 365 days are asked for in years."""
    assert "321" == client.history(MTUM, span, size, end)[1][3]


def test_before_the_open_there_is_no_bar_of_today(tws: Server, client: Plain) -> None:
    tws.clock.set(datetime(2024, 11, 5, 9, 0, tzinfo=NEW_YORK))

    assert "20241104" == rows(client.history(MTUM, "2 D"))[-1][0]


def test_todays_bar_can_be_absent_all_day(tws: Server, client: Plain) -> None:
    """No document promises it."""
    tws.exchange.rules.has_today = False

    assert "20241104" == rows(client.history(MTUM, "2 D"))[-1][0]


def test_an_index_has_bars_without_volume(client: Plain) -> None:
    assert {"0"} == {row[5] for row in rows(client.history(VIX, "20 D"))}


def test_volumes_can_be_lots(tws: Server, client: Plain) -> None:
    """The terminal's checkbox for clients of both kinds."""
    shares = [int(row[5]) for row in rows(client.history(MTUM, "5 D"))]
    tws.exchange.rules.lots = True

    assert [volume // 100 for volume in shares] == [int(row[5]) for row in rows(client.history(MTUM, "5 D"))]


def test_the_schedule_names_each_sessions_hours(tws: Server, client: Plain) -> None:
    tws.clock.set(datetime(2024, 12, 3, 12, 0, tzinfo=NEW_YORK))
    client.send(20, 50, *MTUM, 0, "20241130 00:00:00 US/Eastern", "1 day", "3 D", 1, "SCHEDULE", 1, 0, "")
    name, fields = client.read()

    assert ("historicalSchedule", "3") == (name, fields[5])
    assert ["20241129-09:30:00", "20241129-13:00:00", "20241129"] == fields[-3:]


def test_quotes_stream_as_time_passes(tws: Server, client: Plain) -> None:
    """Until they are cancelled."""
    client.send(1, 11, 60, *MTUM, 0, "", 0, 0, "")
    client.names()
    tws.clock.advance(minutes=5)
    last = [row[4] for name, row in client.rest() if name == "tickPrice" and row[3] == "4"]
    client.send(2, 2, 60)
    client.names()
    tws.clock.advance(minutes=5)

    assert ([str(tws.market.last("MTUM", tws.clock.now() - timedelta(minutes=5)))], []) == (last, client.names())


def test_delayed_quotes_are_a_quarter_of_an_hour_old(tws: Server, client: Plain) -> None:
    tws.exchange.rules.feeds["MTUM"] = "delayed"
    client.send(59, 1, 3)
    client.send(1, 11, 60, *MTUM, 0, "", 1, 0, "")
    before = tws.market.last("MTUM", tws.clock.now() - timedelta(minutes=15))

    assert [str(before)] == [row[4] for name, row in client.rest() if name == "tickPrice" and row[3] == "68"]


def test_any_source_of_bars_will_do(real_data: Path) -> None:
    """Files of real history, served at a day of theirs."""
    session, evening = date(2022, 12, 29), datetime(2022, 12, 29, 16, 30, tzinfo=NEW_YORK)
    source = CsvData(real_data, calendar())
    (want,) = source.daily("MTUM", session, session, evening).frame.to_numpy().tolist()
    with Server(source, at=evening) as tws, Plain(tws.port) as client:
        assert want == [float(value) for value in rows(client.history(MTUM, "1 D"))[0][1:6]]


def test_a_symbol_without_bars_has_no_data_and_no_price() -> None:
    """162; what is held of it is worth what it cost."""
    frame = pd.DataFrame(
        {}, pd.DatetimeIndex([], name="session"), ["open", "high", "low", "close", "volume"], dtype=float
    )
    with Server({"MTUM": frame}) as tws, Plain(tws.port) as client:
        tws.hold("SPY", 2, 500.0)

        assert ("162", {"GrossPositionValue USD": "1000.00"}) == (
            client.history(MTUM, "5 D")[1][3],
            summary(client, "GrossPositionValue"),
        )
