"""The server against three clients we did not write: one conversation, and what each of them understood of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes import calendar

from tws_server import Account, Server

HERE = Path(__file__).parent
SESSION = date(2024, 11, 5)

FUND = [
    [201.00, 203.50, 200.25, 203.00, 900_000],
    [203.25, 205.00, 202.75, 204.50, 1_100_000],
    [204.75, 207.00, 204.00, 206.25, 1_000_000],
]
"""Open, high, low, close and volume of 2024-11-01, 11-04 and 11-05."""

VIX = [[21.00, 22.00, 20.50, 21.88, 0], [22.10, 22.90, 21.50, 21.98, 0], [21.50, 21.75, 20.25, 20.49, 0]]


def bars(rows: list[list[float]]) -> pd.DataFrame:
    days = pd.DatetimeIndex(calendar().window(SESSION, len(rows)), name="session")
    return pd.DataFrame(np.array(rows, dtype=float), days, ["open", "high", "low", "close", "volume"])


@pytest.fixture
def tws(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with written bars, at a version; its clock passes the close when it is asked for the time."""
    account = Account(id="DU7654321", cash={"USD": 10_000.0}, available_funds=5_000.0)
    with Server({"MTUM": bars(FUND), "VIX": bars(VIX)}, account=account, version=request.param) as server:
        server.on("reqCurrentTime", lambda _: server.clock.advance(minutes=25))
        yield server


def talk(*command: str) -> dict[str, Any]:
    """What a client understood, in its own words."""
    spoken = subprocess.run(
        [*command], capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"PYTHONPATH": ""}
    )
    assert 0 == spoken.returncode, spoken.stderr
    return dict(json.loads(spoken.stdout))


def ib_insync(port: int) -> dict[str, Any]:
    return talk(sys.executable, str(HERE / "talk_insync.py"), "ib_insync", str(port))


def ib_async(port: int) -> dict[str, Any]:
    python = os.environ.get("MTUM_EOD_TEST_IB_ASYNC")
    if not python:
        pytest.skip("ib_async needs an environment of its own; name its interpreter in MTUM_EOD_TEST_IB_ASYNC")
    return talk(python, str(HERE / "talk_insync.py"), "ib_async", str(port))


def ibapi(port: int) -> dict[str, Any]:
    return talk(sys.executable, str(HERE / "talk_ibapi.py"), str(port))


CLIENTS = [
    pytest.param(ib_insync, 157, 157, id="ib_insync-157"),
    pytest.param(ib_insync, 176, 176, id="ib_insync-176"),
    pytest.param(ib_async, 157, 157, id="ib_async-157"),
    pytest.param(ib_async, 176, 176, id="ib_async-offers-178-gets-176"),
    pytest.param(ibapi, 176, 157, id="ibapi-offers-157-gets-157"),
]


@pytest.mark.parametrize(("client", "tws", "agreed"), CLIENTS, indirect=["tws"])
def test_a_foreign_client_understands_what_was_scripted(client: Any, tws: Server, agreed: int) -> None:
    """Connect, history, quote, place, fill, executions, completed orders, cash, cancel and errors."""
    told = client(tws.port)

    partial_day = told["daily"][-1]
    last, volume = partial_day[4], partial_day[5]
    assert {
        "version": agreed,
        "accounts": ["DU7654321"],
        "contract": {
            "con_id": 129216520,
            "exchanges": ["SMART", "BATS"],
            "has_moc": True,
            "hours": "20241105:0930-20241105:1600",
            "zone": "US/Eastern",
            "stock_type": "ETF",
            "tick": 0.01,
            "name": "ISHARES MSCI USA MOMENTUM FACTOR ETF",
            "secids": [["ISIN", "US46432F3964"]],
        },
        "unknown_contract": 200,
        "daily": [["20241101", *FUND[0]], ["20241104", *FUND[1]], partial_day],
        "vix": [["20241101", *VIX[0]], ["20241104", *VIX[1]], told["vix"][-1]],
        "minutes": [74, volume],  # 9:30 to 15:40
        "no_data": 162,
        "quote": [round(last - 0.01, 2), round(last + 0.01, 2), last, volume, 204.50],
        "what_if": [round(19 * last * 0.25, 4), 1.0, "USD"],
        "accepted": ["PreSubmitted", 19],
        "open": [["first", 19]],
        "filled": ["Filled", 19, 206.25],
        "fills": [["first", "BOT", 19, 206.25, "01", "2024-11-05 21:00:05+0000", 1.0]],
        "completed": [["first", "Filled", 19, 0]],
        "same_perm_id": True,
        "positions": [["MTUM", 19, round(206.25 + 1 / 19, 4)]],
        "cash": {"AvailableFunds USD": "5000.00", "CashBalance BASE": "6080.2500", "CashBalance USD": "6080.2500"},
        "cancelled": ["Cancelled", 0],
        "rejected": True,
        "errors": [103, 162, 200, 201, 202, 399, 2104],
    } == told
