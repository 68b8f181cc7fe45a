"""Loops over pixels and boxes, compiled by Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(function: Loop) -> Loop:
    """A function as machine code, kept on disk for later processes where there is a folder for it.

    The first call with arrays of new types compiles, or loads what was kept. Arithmetic stays in its written order, so
    that every CPU gives the same bits. Indices aren't checked: callers do that.
    """
    try:
        found = numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # neither the package's folder nor the user's own can be written
        found = numba.njit(function, nogil=True, error_model="numpy")
    return cast(Loop, found)
