"""Looking around after a crash, with an order at the broker that the book knows nothing more of than its intent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest

from crash.cell import Day, Life, Point

SENT = Point("run", "wire", "placeOrder", 1, "after")
ORDER_MESSAGES = ("placeOrder", "cancelOrder", "reqGlobalCancel")


@pytest.fixture(scope="module", params=["BUY", "SELL"])
def crashed(
    request: pytest.FixtureRequest, day_of: Callable[[str], Day], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Life]:
    """A run died when its order had just arrived."""
    with Life(day_of(request.param), tmp_path_factory.mktemp("crashed")) as life:
        life.die(SENT)
        yield life


@pytest.mark.parametrize(
    "command", ["run --dry-run", "explain", "status", "doctor", "doctor --full", "report", "export signals"]
)
def test_looking_sends_nothing_and_touches_nothing(crashed: Life, command: str) -> None:
    """A process of its own: no order message on the wire, database, WAL and all other files as the crash left them."""
    before, sent = contents(crashed), len(crashed.tws.asked(*ORDER_MESSAGES))
    crashed.type(command)

    assert (before, sent) == (contents(crashed), len(crashed.tws.asked(*ORDER_MESSAGES)))
    assert 1 == len([order for order in crashed.tws.orders if order.is_live])


def contents(life: Life) -> dict[str, tuple[str, int]]:
    """Every file with its content and the time of its last change, but what the commands said."""
    return {
        str(path.relative_to(life.folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(life.folder.rglob("*"))
        if path.is_file() and path.name != "out"
    }
