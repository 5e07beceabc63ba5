"""No port's method is forgotten: trouble comes to each, or the plan says why not."""

import inspect

from mtum_eod import ports
from simulation.plan import CALLS, POINTS, PORTS, UNTROUBLED, drawn, members

WITHOUT = {ports.Calendar, ports.Notifier, ports.BookReader}
"""Computed; the program's own, between the store and the post; a part of the store."""


def test_trouble_comes_to_every_port() -> None:
    """A port that is added must be given its troubles, or be named here with the reason."""
    known = [port for _, port in inspect.getmembers(ports, inspect.isclass) if port.__module__ == ports.__name__]

    assert {port for port in known if getattr(port, "_is_protocol", False)} == {*PORTS.values(), *WITHOUT}


def test_trouble_comes_to_every_member_of_a_port() -> None:
    """A member that is added must be given its troubles, or a reason for none; one that is gone must be taken out."""
    places = {f"{name}.{member}" for name, port in PORTS.items() for member in members(port)}
    troubled = CALLS.keys() - {"post.send"}  # no port, but where messages leave the program

    assert troubled | UNTROUBLED.keys() == places
    assert not troubled & UNTROUBLED.keys()


def test_every_trouble_is_drawn() -> None:
    """No point of the plan is one that no life can have."""
    assert {(trouble.place, trouble.what) for seed in range(80) for trouble in drawn(seed, 252).troubles} == set(POINTS)
