"""Outcomes as aligned text or one JSON document."""
