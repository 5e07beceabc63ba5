"""Money has one alias and one tolerance; it is rounded only where it is shown."""

from __future__ import annotations

Usd = float
"""US dollars as float64."""

TOLERANCE_USD = 0.005
"""Two amounts closer than this are the same amount: half a cent."""
