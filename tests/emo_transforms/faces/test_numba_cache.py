"""What the cache of compiled loops relies on in Numba, where it is private: a new Numba that changes it fails here."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.caching import FunctionCache, NullCache

from emobeam.emo_transforms.faces.numba_cache import keep_on_disk

CHANGED = "Numba has changed it; look at emo_transforms/faces/numba_cache.py"


def add_one(values: np.ndarray) -> np.ndarray:
    return values + 1


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A loop that isn't compiled yet; Numba keeps its caches in a folder of the test's own."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    return numba.njit(add_one)


def test_a_dispatcher_has_a_cache_that_can_be_replaced(loop: Any) -> None:
    assert isinstance(loop._cache, NullCache), CHANGED
    loop.enable_caching()
    assert isinstance(loop._cache, FunctionCache), CHANGED


def test_the_dispatcher_asks_the_cache_by_these_calls(loop: Any) -> None:
    asked = []

    class Listening(FunctionCache):
        def load_overload(self, *args: Any) -> None:
            asked.append(("load", args))

        def save_overload(self, *args: Any) -> None:
            asked.append(("save", args))

    loop._cache = Listening(add_one)
    loop(np.zeros(3))
    assert [name for name, _ in asked] == ["load", "save"], CHANGED
    ((_, (sig, context)), (_, (sig_again, data))) = asked
    assert sig == sig_again, CHANGED
    assert callable(context.refresh), CHANGED
    # What a file is named after: the types of the arguments, and the CPU.
    assert "float64" in repr(sig), CHANGED
    assert context.codegen().magic_tuple() == data.codegen.magic_tuple(), CHANGED
    for method, parameters in (("load_overload", ["sig", "target_context"]), ("save_overload", ["sig", "data"])):
        assert list(inspect.signature(getattr(FunctionCache, method)).parameters)[1:] == parameters, CHANGED


def test_the_cache_has_the_parts_that_pack_and_unpack(loop: Any, tmp_path: Path) -> None:
    cache = FunctionCache(add_one)
    assert tmp_path in Path(cache.cache_path).parents, CHANGED
    assert isinstance(cache._impl.filename_base, str), CHANGED
    assert "add_one" in cache._impl.filename_base, CHANGED
    for name in ("check_cachable", "reduce", "rebuild"):
        assert callable(getattr(cache._impl, name)), CHANGED
    cache._impl.locator.ensure_cache_path()
    assert Path(cache.cache_path).is_dir(), CHANGED


def test_together_they_keep_a_loop(loop: Any, tmp_path: Path) -> None:
    """Numba catches nothing that goes wrong inside, but the cache does: only this tells that anything is kept."""
    keep_on_disk(loop, add_one)
    loop(np.zeros(3))
    (file,) = tmp_path.rglob("*.nbc")
    again: Any = numba.njit(add_one)
    keep_on_disk(again, add_one)
    assert again(np.ones(3)).tolist() == [2, 2, 2]
    assert sum(again.stats.cache_hits.values()) == 1, CHANGED
    assert not list(tmp_path.rglob("*.nbi")), f"Numba's own index is beside {file.name}"
