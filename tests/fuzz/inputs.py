"""Where inputs are kept: small ones made by hand or recorded, and every one that found something."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def inputs(target: str) -> dict[str, bytes]:
    """The inputs of a target by name."""
    return {path.name: path.read_bytes() for path in sorted((FOLDER / target).iterdir())}
