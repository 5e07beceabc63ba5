"""What every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MTUM and VIX history; tests that need it are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MTUM_EOD_TEST_DATA", default))
    if not (folder / "MTUM.csv").is_file():
        pytest.skip("real market data is absent; name its folder in MTUM_EOD_TEST_DATA")
    return folder
