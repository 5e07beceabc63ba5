"""Keeping secrets out of texts: the addresses of the owner's mailbox, chat or watchman are passwords themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote, unquote_plus, urlsplit

BLOT = "…"

SHORTEST = 4
"""Characters. What is shorter stands in too many innocent words to be blotted out of them."""

OPEN_HOSTS = {"http", "https"}
"""Schemes whose host is a host. In others a token may stand in its place, as in tgram://TOKEN/CHAT."""


def hider(secrets: Iterable[str]) -> Callable[[str], str]:
    """What blots these addresses out of a text, whole or in parts, as typed, decoded, or with a plus for a blank."""
    parts = {part for secret in secrets for part in _parts(secret) if len(part) >= SHORTEST}
    if not parts:
        return str
    pattern = re.compile("|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True)))
    return lambda text: pattern.sub(BLOT, text)


def _parts(secret: str) -> Iterator[str]:
    yield secret
    try:
        address = urlsplit(secret)
    except ValueError:  # a bracket where no IPv6 address is
        return
    user, at, host = address.netloc.rpartition("@")
    pieces = [*re.split("[:/]", user), *address.path.split("/"), address.fragment]
    pieces.append(user.partition(":")[2])  # a password may have a colon of its own
    pieces += [field.partition("=")[2] for field in address.query.split("&")]
    if not at and address.scheme not in OPEN_HOSTS:
        pieces += [host, *re.sub(r":\d{0,5}$", "", host).split(":")]  # less a port, a number like others
    for piece in pieces:
        yield from (piece, unquote(piece), unquote_plus(piece))
