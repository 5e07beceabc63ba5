"""What every test may ask for."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_time import SERVER_ZONES, MachineTime

MEASURED = ("cli", "core", "jobs")
"""Whose tests must give the coverage of core and jobs that .ci/run asks for."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where coverage is measured, only those tests are traced: tracing makes a test half again or twice as long."""
    for item in items if config.pluginmanager.hasplugin("_cov") else ():
        if item.path.parent.name not in MEASURED:
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MTUM and VIX history; tests that need it are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MTUM_EOD_TEST_DATA", default))
    if not (folder / "MTUM.csv").is_file():
        pytest.skip("real market data is absent; name its folder in MTUM_EOD_TEST_DATA")
    return folder


@pytest.fixture(params=SERVER_ZONES)
def server_time(request: pytest.FixtureRequest) -> Iterator[type[MachineTime]]:
    """The time of a server in one zone after the other, set by the test; the program's own clock tells it."""
    from mtum_eod.adapters import calendar, clock

    calendar._new_york_date.cache_clear()  # what another zone's server was told is no answer to this one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "datetime", MachineTime)
        patch.setenv("TZ", request.param)
        time.tzset()
        yield MachineTime
    time.tzset()
