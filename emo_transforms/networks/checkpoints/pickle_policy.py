"""What a torch pickle may name and call, and what is made of it here: the allow-list of the pickle machine.

A class or function is only a :class:`Name`, an object only a :class:`Record`. Calls are allowed where they rebuild
tensors and plain containers, by functions of this module; some that settings in checkpoints make are noted, not made;
all others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# fmt: off
_BUILTINS = frozenset(
    [
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "object",
        "set", "slice", "str", "tuple",
    ]
)
_NEVER = frozenset(
    [
        "os", "posix", "nt", "subprocess", "sys", "importlib", "runpy", "ctypes", "socket", "shutil", "pty", "code",
        "codeop", "pickle", "_pickle", "marshal", "types", "webbrowser", "multiprocessing", "threading", "asyncio",
        "pip", "setuptools", "inspect", "operator", "http", "urllib", "requests", "tempfile",
    ]
)
"""Modules that no network's state has to name: a file that does is refused at once."""
# fmt: on
_INERT_CALLS = frozenset(
    [
        "functools.partial",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.dtype",
        "torch.device",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "datetime.datetime",
    ]
)
"""Calls that plain settings in checkpoints make; they are noted, not made."""


_SHOWN = 120
"""Letters of a text from the file in an error message."""


class PickleRefused(Exception):
    """The file asks for something that reading tensors doesn't need, or is no torch pickle at all."""


@dataclass(frozen=True)
class Name:
    """A class or function that the file names, and nothing more than its name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object of a class that the file names: never constructed, its state as the file gives it.

    Attributes:
        kind: its class, or the function that would have made it.
        arguments: what the class would have been called with.
        state: attributes, as set by the file.
    """

    kind: Name
    arguments: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)


_KEYS = (str, bytes, bool, float, type(None), Name, Record)


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers in a checkpoint: its name there, their type, and how many they are."""

    key: str
    dtype: torch.dtype
    length: int


@dataclass(eq=False)
class Stored:
    """A tensor before its numbers are read."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def named(module: str, name: str) -> Name:
    """The name of a class or function; raises :class:`PickleRefused` where no network needs it."""
    first = module.split(".")[0]
    builtin = first in ("builtins", "__builtin__")
    full = f"{module}.{name}"
    written = all(part.isidentifier() for part in full.split("."))  # names go into messages and onto terminals
    if first in _NEVER or (builtin and name not in _BUILTINS) or name.startswith("__") or ".__" in name or not written:
        raise PickleRefused(f"it names {_quoted(full)}, which no network needs; it may be malicious")
    return Name("builtins" if builtin else module, name)


def called(function: Any, arguments: Any) -> Any:
    """What stands for a call; raises :class:`PickleRefused` where it isn't allowed."""
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise PickleRefused(f"it calls {told(function)}")
    name = str(function)
    if name in _CALLS:
        return _CALLS[name](*arguments)
    if name in _INERT_CALLS or function.module.startswith("timm."):  # timm's enumerations and settings
        return Record(function, arguments)
    raise PickleRefused(f"it calls {_quoted(name)}, which reading a network doesn't need; it may be malicious")


def _attribute(owner: Any, name: Any) -> Record:
    """How a function of torch is pickled that a module keeps (``self.act = torch.relu``): noted, never looked up."""
    torchs = isinstance(owner, Name) and owner.module.split(".")[0] == "torch"
    if not torchs or not isinstance(name, str) or name.startswith("__"):
        raise PickleRefused(f"it calls getattr for {told(name)} of {told(owner)}; it may be malicious")
    return Record(Name("builtins", "getattr"), (owner, name))


def told(value: Any) -> str:
    """A value in an error message: names and texts quoted, so that no file writes to a terminal."""
    return _quoted(str(value)) if isinstance(value, (Name, str)) else f"a {type(value).__name__}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def checked_key(key: Any) -> Any:
    """A key of a dictionary, or a member of a set.

    Only what hashes at once and as Python spreads it: a tuple that holds itself sixty times over takes for ever, and
    integers without a bound can be chosen so that all of them collide.

    Raises:
        PickleRefused: it is something else.
    """
    if not (_hashes_at_once(key) or (type(key) is tuple and len(key) <= 8 and all(map(_hashes_at_once, key)))):
        raise PickleRefused(f"it uses {told(key)} as a key, which no network needs; it may be malicious")
    return key


def _hashes_at_once(key: Any) -> bool:
    return (type(key) is int and -(2**63) <= key < 2**64) or isinstance(key, _KEYS)


def _stored(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Stored:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(number) is int for number in numbers):
        raise PickleRefused("it rebuilds a tensor from something that is no storage")
    return Stored(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Stored:
    if not isinstance(data, Stored):
        raise PickleRefused("it makes a parameter of something that is no tensor")
    return data


def _from_type(function: Any, _kind: Any, arguments: Any, _state: Any = None) -> Any:
    return _parameter(called(function, arguments))


def _reconstructed(kind: Any, base: Any, state: Any = None) -> Any:
    if not isinstance(kind, Name) or base != Name("builtins", "object") or state is not None:
        raise PickleRefused(f"it reconstructs {told(kind)} out of {told(base)}")
    return Record(kind)


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleRefused("it encodes something that is no text")
    return text.encode("latin1")


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return {checked_key(key): value for key, value in pairs}


def _default(*_: Any) -> dict[Any, Any]:
    """A ``defaultdict``: what it holds is set afterwards, what makes its defaults is never called."""
    return {}


def _counter(counts: Any = None) -> dict[Any, Any]:
    if counts is not None and not isinstance(counts, dict):
        raise PickleRefused(f"it counts {told(counts)}")
    return dict(counts or {})


def _members(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda items: make([checked_key(item) for item in items])


def _plain(make: Callable[[Any], Any]) -> Callable[..., Any]:
    def made(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, set, frozenset)):
            raise PickleRefused("it fills a container with something that is no list")
        return make(items)

    return made


CONTAINERS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _default,
    "collections.Counter": _counter,
    "builtins.set": _plain(_members(set)),
    "builtins.frozenset": _plain(_members(frozenset)),
    "builtins.list": _plain(list),
    "builtins.bytes": lambda: b"",  # all that older protocols write this way
    "builtins.tuple": _plain(tuple),
    "torch.Size": _plain(tuple),
}
_CALLS: Mapping[str, Callable[..., Any]] = {
    **CONTAINERS,
    "torch._utils._rebuild_tensor": _stored,
    "torch._utils._rebuild_tensor_v2": _stored,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    "_codecs.encode": _encoded,
    "builtins.getattr": _attribute,
}
