"""Addresses of MLflow, as they may be shown: a password in one is never printed or stored."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

# Up to the last @ of the word: a password that nobody encoded may hold an @ or a slash itself.
_IN_FRONT_OF_HOST = re.compile(r"://(?!/)[^\s'\"<>]*@")
_IN_QUERY = re.compile(r"([?&][\w.-]*(?:password|passwd|pwd|token|secret)[\w.-]*=)[^&\s'\"]+", re.I)
SHORTEST_SECRET = 4
"""A password of fewer characters is not looked for in running text: it would be in many words."""


def without_password(text: str, tracking_uri: str | None = None) -> str:
    """The text with `***` for the user and the password of every address in it.

    Args:
        tracking_uri: its password is hidden wherever it stands, also outside of an address.
    """
    text = _IN_QUERY.sub(r"\1***", _IN_FRONT_OF_HOST.sub("://***@", text))
    for secret in _secrets(tracking_uri or ""):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def _secrets(tracking_uri: str) -> set[str]:
    try:
        password = urlsplit(tracking_uri).password or ""
    except ValueError:  # no address at all
        return set()
    return {password, unquote(password)}
