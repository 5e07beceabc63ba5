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


@pytest.mark.parametrize(
    ("url", "said", "left"),
    [
        ("mailtos://smtp.example.com?user=me&pass=pa+ssword", "login with pa+ssword refused", "login with … refused"),
        ("mailtos://smtp.example.com?user=me&pass=pa+ssword", "login with pa ssword refused", "login with … refused"),
        ("https://hc.example.com/p?key=S%C3%A9cret%2F1", "with url: /p?key=S%C3%A9cret%2F1", "with url: /p?key=…"),
        ("https://hc.example.com/p?key=S%C3%A9cret%2F1", "key Sécret/1 unknown", "key … unknown"),
        ("https://hc.example.com/p?key=a;b=secret", "key a;b=secret unknown", "key … unknown"),
        ("tgram://123456789:AAFab_cd/4711", "bot token AAFab_cd of 123456789", "bot token … of …"),
        ("mailto://user:pa:ss@mail.example.com", "bad pa:ss", "bad …"),
        ("json://token1234:20240/x", "token1234 at port 20240", "… at port 20240"),
    ],
)
def test_a_secret_is_blotted_out_as_it_was_typed_and_as_it_is_read(url: str, said: str, left: str):
    assert left == hider([url])(said)


def test_without_secrets_a_text_stays_as_it_is():
    assert "anything" == hider(["", ""])("anything")
