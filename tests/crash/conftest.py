"""The warm parent of all processes here, and the eves of the two sessions that they die in."""

import os
from collections.abc import Callable
from functools import cache
from typing import Literal

import pytest

from crash.cell import Day, eve_of
from crash.victim import warm_up


@pytest.fixture(scope="session")
def day_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Literal["BUY", "SELL"]], Day]:
    """The session with an order of that side, and the book on its eve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # put back in the end
        warm_up()
    return cache(lambda side: eve_of(side, tmp_path_factory.mktemp(side)))
