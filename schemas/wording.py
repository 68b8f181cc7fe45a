"""How things are put for people: counts in sentences, what may have been meant, other people's text.

The latter without what must not be shown: passwords and tokens, and what would steer a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

HIDDEN = "***"

_PASSWORD = re.compile(
    r"(?P<before>\b(?!github|gitlab)[a-z][a-z0-9+.-]*://)(?P<user>[^/\s:@'\"\\]*):[^/\s'\"\\]+@", re.IGNORECASE
)
_TOKEN_ALONE = re.compile(r"(?P<before>\bhttps?://)[^/\s:@'\"\\]+@", re.IGNORECASE)
_ADDRESS = re.compile(r"://|\burl: /")
"""Of an address; HTTP clients tell of ``... exceeded with url: /a.mp4?token=...``, without the host."""
_PARAMETER = re.compile(r"(?P<before>[?&#;](?P<name>[\w.%-]+)=)(?P<value>[^&#;\s'\"\\]*[^&#;\s'\"\\,:.)\]])")
_SECRET = re.compile(
    r"sig|token|secret|passw|pwd|passphrase|auth|cred|key|policy|jwt|session|hmac|hash|md5|code|ticket", re.IGNORECASE
)
_LONG = 24
"""A parameter's value of so many characters is taken for a token, whatever the parameter is called."""

_VERSIONS = frozenset({"versionid", "generation"})
"""Parameters of object stores whose values are long and no secret."""

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, those that turn the direction of what follows, halves of characters."""


def without_secrets(text: str) -> str:
    """A text whose addresses have ``***`` for passwords and for the values of parameters that let somebody in.

    Such parameters are known by their names (``X-Amz-Signature``, ``sig``, ``token``, ``key`` ...), and by values of
    24 characters and more. Doing it twice changes nothing. A text without any address is left alone: names of files
    may hold ``#session=2``.
    """
    if "=" in text and _ADDRESS.search(text):
        text = _PARAMETER.sub(_hidden, text)
    if "@" in text:
        text = _PASSWORD.sub(rf"\g<before>\g<user>:{HIDDEN}@", text)
        text = _TOKEN_ALONE.sub(rf"\g<before>{HIDDEN}@", text)
    return text


def _hidden(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    long = len(value) >= _LONG and name.lower() not in _VERSIONS
    return found["before"] + (HIDDEN if long or _SECRET.search(name) else value)


def data_without_secrets(data: Any) -> Any:
    """Plain JSON data, each text in it as :func:`without_secrets` gives it; keys are left alone."""
    if isinstance(data, str):
        return without_secrets(data)
    if isinstance(data, dict):
        return {key: data_without_secrets(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [data_without_secrets(value) for value in data]
    return data


def told(text: str) -> str:
    """A text as it is printed: without secrets, and with ``\\u001b`` for an escape character and its like.

    Names of files, and ids made of them, may hold what clears a screen or renames a window. What stands for it is
    the same in JSON, so that JSON stays what it was.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", without_secrets(text))


def in_unicode(text: str) -> str:
    r"""A text that can be stored as UTF-8: bytes of a file's name that aren't are written ``\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode()


_FORMULA = re.compile(r"^(?='*[=+\-@\t\r])")
_SPELT = re.compile(r"^'(?='*[=+\-@\t\r])")


def in_cell(text: str) -> str:
    """A text as it stands in a CSV file: with an apostrophe before ``=``, ``+``, ``-``, ``@``, tab or return.

    Spreadsheets take a cell that begins so for a formula and run it, and ids are other people's text.
    """
    return _FORMULA.sub("'", text)


def from_cell(text: str) -> str:
    """The inverse of :func:`in_cell`."""
    return _SPELT.sub("", text)


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number with its noun: ``1 video``, ``1,200 videos``.

    Args:
        plural: of a noun that doesn't merely take an s.
    """
    return f"{count:,} {noun(count, singular, plural)}"


def noun(count: int, singular: str, plural: str = "") -> str:
    """The noun alone, as a sentence about so many wants it."""
    return singular if count == 1 else plural or f"{singular}s"


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """``; did you mean 'train'?`` where something known is spelled nearly so, capitals aside; else nothing."""
    plain = {name.lower(): name for name in known if name}
    close = get_close_matches(text.lower(), plain, n=1)
    return f"; did you mean {plain[close[0]]!r}?" if close else ""
