"""Loops over pixels and boxes, compiled by Numba."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

from emobeam.emo_transforms.storage.lean_imports import imports_without

# Numba looks for SciPy, which takes longer than itself, when it first compiles; it asks again where a loop needs it.
with imports_without("scipy"):
    import numba
    import numba.np.arraymath

from emobeam.emo_transforms.faces.numba_cache import keep_on_disk

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(function: Loop) -> Loop:
    """A function as machine code, kept on disk for later processes where there is a folder for it.

    The first call compiles, or loads what was kept; so does the first one with arrays of another type, read-only ones
    or ones of another layout among them, so callers bring theirs into one form. Arithmetic stays in its written
    order, so that every CPU gives the same bits. Indices aren't checked: callers do that. Of what lies outside of the
    function only constants of its own file may be used: when that file changes, it is compiled anew.
    """
    loop: Any = numba.njit(function, nogil=True, error_model="numpy")
    with contextlib.suppress(RuntimeError, OSError):  # no folder can be written, or the source lies in a zip file
        keep_on_disk(loop, function)
    return cast(Loop, loop)
