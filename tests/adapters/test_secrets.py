"""What is blotted out of a text, and what is left readable."""

import pytest

from mtum_eod.adapters.secrets import hider

URLS = (
    "mailto://owner:p%40ss-word@mail.example.com?to=me@example.com&smtp=out.example.com",
    "tgram://987654:AAbbCC/12345678",
    "https://hc.example.com/ping/5ecc0ded",
)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (f"cannot use {URLS[0]}", "cannot use …"),
        ("login of owner with p@ss-word failed", "login of … with … failed"),
        ("login with p%40ss-word failed", "login with … failed"),
        ("https://api.telegram.org/bot987654:AAbbCC/sendMessage", "https://api.telegram.org/bot…/sendMessage"),
        ("no route to hc.example.com", "no route to hc.example.com"),
        ("GET /ping/5ecc0ded failed", "GET /…/… failed"),
        ("mail.example.com refused", "mail.example.com refused"),
        ("BUY 33 MTUM MOC for 2024-11-05", "BUY 33 MTUM MOC for 2024-11-05"),
    ],
)
def test_secrets_are_blotted_out_and_the_rest_stays(said: str, left: str):
    assert left == hider(URLS)(said)


def test_without_secrets_a_text_stays_as_it_is():
    assert "anything" == hider(["", ""])("anything")
