"""A pickle machine that reads and never acts.

:func:`pickletools.genops` tells the steps of a pickle; :class:`Machine` takes them on a stack of its own. Nothing a
file names is imported, called or constructed: :mod:`.networks.checkpoints.pickle_policy` says what is made instead.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

from emobeam.emo_transforms.networks.checkpoints.pickle_policy import (
    CONTAINERS,
    DTYPES,
    Name,
    PickleRefused,
    Record,
    Storage,
    called,
    checked_key,
    named,
    told,
)

_COPIES = 2**27
"""Items and letters that the calls of one pickle may copy: a short file could copy one long list again and again."""


class Machine:
    """Runs one pickle. Every value it makes is plain data or one of the records above."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def run(self, file: IO[bytes]) -> Any:
        """Runs up to STOP and leaves the file behind it."""
        for opcode, argument, _ in pickletools.genops(file):
            step = _STEPS.get(opcode.name)
            if step is None:
                raise PickleRefused(f"it uses pickle's {opcode.name}, which no network needs")
            step(self, argument)
        return self._stack.pop()

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def top(self) -> Any:
        return self._stack[-1]

    def mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def put(self, index: int) -> None:
        self._memo[checked_key(index)] = self.top()

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.top()

    def get(self, index: int) -> None:
        self.push(self._memo[index])

    def discard(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    def global_(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(named(module, name))

    def stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleRefused("it names a class by something that is no text")
        self.push(named(module, name))

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if isinstance(arguments, tuple):
            self._count(arguments)
        self.push(called(function, arguments))

    def _count(self, values: tuple[Any, ...]) -> None:
        self._copied += sum(len(value) for value in (values, *values) if isinstance(value, _SIZED))
        if self._copied > _COPIES:
            raise PickleRefused("it copies the same values again and again; it may be malicious")

    def new_object(self, arguments: Any, kind: Any) -> None:
        if not isinstance(kind, Name) or not isinstance(arguments, tuple):
            raise PickleRefused("it makes an object of something that is no class")
        self._count(arguments)
        plain = str(kind) in CONTAINERS
        self.push(CONTAINERS[str(kind)](*arguments) if plain else Record(kind, arguments))

    def newobj(self, _: Any) -> None:
        arguments = self.pop()
        self.new_object(arguments, self.pop())

    def newobj_ex(self, _: Any) -> None:
        keywords, arguments = self.pop(), self.pop()
        if not isinstance(keywords, dict):
            raise PickleRefused("it makes an object with keywords that are no dictionary")
        self.new_object((*arguments, *keywords.items()), self.pop())

    def obj(self, _: Any) -> None:
        kind, *arguments = self.since_mark()
        self.new_object(tuple(arguments), kind)

    def inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.new_object(tuple(self.since_mark()), named(module, name))

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, dict):
            return  # attributes of an OrderedDict: torch keeps version numbers there
        if not isinstance(target, Record):
            raise PickleRefused(f"it sets the state of {told(target)}")
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        self._count(parts)
        if all(part is None or isinstance(part, dict) for part in parts):
            for part in parts:
                target.state.update(part or {})
        else:
            target.state["state"] = state

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Record):
            target.state.setdefault("items", []).extend(items)
        else:
            raise PickleRefused(f"it appends to {told(target)}")

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        values = target.state if isinstance(target, Record) else target
        if not isinstance(values, dict) or len(items) % 2:
            raise PickleRefused(f"it sets items of {told(target)}")
        values.update(_dictionary(items))

    def add_items(self, _: Any) -> None:
        items, target = self.since_mark(), self.top()
        if not isinstance(target, set):
            raise PickleRefused(f"it adds items to {told(target)}")
        target.update(map(checked_key, items))

    def persistent(self, identity: Any) -> None:
        if isinstance(identity, tuple) and len(identity) >= 2 and identity[0] == "module":
            self.push(identity[1])  # old files say here where a class was written, with its source
            return
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise PickleRefused("it refers to something outside that is no storage of numbers")
        _, kind, key, _location, length = identity[:5]
        known = isinstance(kind, Name) and kind.module.split(".")[0] == "torch" and kind.name in DTYPES
        if not known or (len(identity) == 6 and identity[5] is not None):
            raise PickleRefused(f"it holds numbers as {told(kind)}, which isn't supported")
        if not isinstance(key, str) or not isinstance(length, int) or length < 0:
            raise PickleRefused("it refers to a storage in a way torch doesn't")
        storage = Storage(key, DTYPES[kind.name], length)
        if self.storages.setdefault(key, storage) != storage:
            raise PickleRefused(f"it gives storage {told(key)} two types")
        self.push(storage)


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(checked_key, items[::2]), items[1::2], strict=True))


_SIZED = (str, bytes, list, tuple, dict, set, frozenset)


def _constant(value: Any) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.push(value)


# fmt: off
_LITERALS = [
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
]
# fmt: on

_STEPS: Mapping[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(_LITERALS, Machine.push),
    **{name: lambda machine, _: None for name in ("PROTO", "FRAME", "STOP")},
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "MARK": Machine.mark,
    "POP": Machine.discard,
    "POP_MARK": lambda machine, _: machine.since_mark().clear(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push((machine.pop(),)),
    "TUPLE2": lambda machine, _: machine.push(tuple(reversed([machine.pop(), machine.pop()]))),
    "TUPLE3": lambda machine, _: machine.push(tuple(reversed([machine.pop(), machine.pop(), machine.pop()]))),
    "LIST": lambda machine, _: machine.push(list(machine.since_mark())),
    "DICT": lambda machine, _: machine.push(_dictionary(machine.since_mark())),
    "FROZENSET": lambda machine, _: machine.push(frozenset(map(checked_key, machine.since_mark()))),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(list(reversed([machine.pop(), machine.pop()]))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "ADDITEMS": Machine.add_items,
    "GLOBAL": Machine.global_,
    "STACK_GLOBAL": Machine.stack_global,
    "REDUCE": Machine.reduce,
    "BUILD": Machine.build,
    "NEWOBJ": Machine.newobj,
    "NEWOBJ_EX": Machine.newobj_ex,
    "OBJ": Machine.obj,
    "INST": Machine.inst,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.put),
    "MEMOIZE": Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    "PERSID": Machine.persistent,
    "BINPERSID": lambda machine, _: machine.persistent(machine.pop()),
}
