"""The warm parent of all daemons here, and a server for each."""

from collections.abc import Iterator

import pytest

from soak.life import warm_up
from tws_server import Server


@pytest.fixture(scope="session", autouse=True)
def _warm() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "")  # put back in the end
        warm_up()


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server
