"""Compiled loops kept on disk: the one place where emobeam uses private parts of another library, Numba's cache.

Numba has a cache of its own (``cache=True``) that unlike machines and processes that start together can't share; there
is no public way to give it another. What is relied on stands in ``tests/emo_transforms/faces/test_numba_cache.py``.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

from emobeam.emo_transforms.storage import write_bytes


def keep_on_disk(loop: Any, function: Callable[..., Any]) -> None:
    """Gives what ``numba.njit`` made of a function a cache on disk, before its first call.

    Raises:
        RuntimeError: no folder of caches can be written.
        OSError: the file with the function's source can't be read.
    """
    loop._cache = _FilePerLoop(function)  # noqa: SLF001 - this file is the place for it


class _FilePerLoop(FunctionCache):
    """Numba's cache with a file of its own for each loop, what it does, source, version, CPU and type of arguments.

    Numba numbers its files and writes down in another one which is which: processes that start together, or on a
    folder shared by unlike machines, may then run each other's code. Here the name tells what it is, and what can't be
    read or written, or isn't whole, is as if it weren't there.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._function = function
        self._source = hashlib.sha256(Path(function.__code__.co_filename).read_bytes()).hexdigest()

    @cached_property
    def _own(self) -> tuple[str, ...]:
        """Found out at the first call: constants may stand below a function.

        The source alone would not do. Python goes on with the instructions it kept of a file that was changed within a
        second and to the same length, and machine code of the old ones would then be kept under the name of the new.
        """
        does = hashlib.sha256("\n".join(_does(self._function, set())).encode()).hexdigest()
        return self._function.__qualname__, numba.__version__, self._source, does

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        try:
            content = self._file(sig, target_context.codegen()).read_bytes()
            if hashlib.sha256(content[32:]).digest() == content[:32]:
                return self._impl.rebuild(target_context, pickle.loads(content[32:]))
            return None
        except Exception:  # noqa: BLE001 - a damaged or foreign file can raise anything; compiling answers all of it
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            if not self._impl.check_cachable(data):
                return
            self._impl.locator.ensure_cache_path()
            target = self._file(sig, data.codegen)
            packed = dumps(self._impl.reduce(data))  # type: ignore[no-untyped-call]
            write_bytes(str(target), hashlib.sha256(packed).digest() + packed)
        except Exception:  # noqa: BLE001 - no room, no right, not to be pickled: the next process compiles again
            return

    def _file(self, sig: Any, codegen: Any) -> Path:
        what = hashlib.sha256(repr((self._own, sig, codegen.magic_tuple())).encode()).hexdigest()
        return Path(self.cache_path) / f"{self._impl.filename_base}.{what[:32]}.nbc"


def _does(function: Callable[..., Any], seen: set[Callable[..., Any]]) -> Iterator[str]:
    """Instructions of a loop, and of the loops that it calls, as Python has loaded them, with the constants they use.

    Args:
        seen: loops that are described already.
    """
    seen.add(function)
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        yield repr((code.co_code, code.co_names, code.co_varnames))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                pending.append(constant)
            else:
                yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant)
        for name in code.co_names:
            value = function.__globals__.get(name)
            inner = getattr(value, "py_func", None)
            if inner is not None and inner not in seen:
                yield from _does(inner, seen)
            elif isinstance(value, bool | int | float | str | tuple):
                yield f"{name}={value!r}"
