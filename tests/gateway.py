"""The IB adapter on a line to a TWS server of the test's own, with time-outs short enough for a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from terminal import Person

from mtum_eod import bootstrap
from mtum_eod.adapters.ib.accounts import chooser
from mtum_eod.adapters.ib.broker import IbBroker
from mtum_eod.adapters.ib.data import IbData
from mtum_eod.adapters.ib.inspection import Needs
from mtum_eod.adapters.ib.line import Line
from mtum_eod.core.trading import Mode, OrderIntent, OrderKind, OrderType, Side, order_reference
from tws_server import Server

SESSION = date(2024, 11, 5)
ACCOUNT = "DU1234567"


@contextmanager
def line(
    tws: Server, *, mode: Mode = Mode.PAPER, account: str = "", client_id: int = 1, spare_ids: int = 0, **values: Any
) -> Iterator[Line]:
    """A line to the server, closed at the end."""
    defaults: dict[str, Any] = {"request_timeout": 1.0, "reconnect_timeout": 2.0, "max_retries": 1}
    place = {"host": "127.0.0.1", "port": tws.port} | {key: values.pop(key) for key in ("host", "port") & values.keys()}
    made = Line(
        **place,
        client_ids=range(client_id, client_id + 1 + spare_ids),
        choose_account=chooser(mode, account),
        clock=tws.clock,
        **(defaults | values),
    )
    try:
        yield made
    finally:
        made.close()


def broker(line: Line, tws: Server, **needs: Any) -> IbBroker:
    """The broker on that line."""
    wanted: dict[str, Any] = {"order_type": OrderType.MOC, "quotes": ("MTUM", "VIX"), "clock": tws.clock} | needs
    return IbBroker(line, symbol="MTUM", primary_exchange="BATS", calendar=tws.calendar, needs=Needs(**wanted))


def data(line: Line, tws: Server) -> IbData:
    """The source of bars on that line."""
    return IbData(line, primary_exchange="BATS", calendar=tws.calendar)


def intent(
    side: Side = Side.BUY,
    shares: int = 20,
    session: date = SESSION,
    order_id: int = 1,
    order_type: OrderType = OrderType.MOC,
) -> OrderIntent:
    """What the book would have committed."""
    return OrderIntent(
        reference=order_reference(Mode.PAPER, ACCOUNT, "MTUM", session, side),
        session=session,
        kind=OrderKind.DECISION,
        side=side,
        order_type=order_type,
        shares=shares,
        order_id=order_id,
        decision_price_usd=207.0,
    )


class PaperPerson(Person):
    """A person at a terminal whose book is the paper one."""

    @property
    def database(self) -> Path:
        return self.folder / "mtum-eod-paper.db"


def paper_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tws: Server) -> PaperPerson:
    """Someone in a folder of their own, whose settings say paper and IB, and whose clock is the exchange's."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(bootstrap, "SystemClock", lambda: tws.clock)
    settings = {"MODE": "paper", "DATA__SOURCE": "ib", "IB__PAPER_PORT": str(tws.port)}
    quick = {"IB__REQUEST_TIMEOUT": "1", "IB__RECONNECT_TIMEOUT": "1", "IB__MAX_RETRIES": "0"}
    return PaperPerson(folder, tws.clock, {f"MTUM_EOD_{key}": value for key, value in (settings | quick).items()})
