"""End-of-day trading runner for MTUM: one decision a session, at most one order a session."""

__version__ = "0.1.0"
