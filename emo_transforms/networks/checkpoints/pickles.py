"""Torch pickles of whole modules, read as data: nothing a file names is ever imported, called or constructed.

``torch.save(module)`` writes a program for Python's pickle machine. Here it runs on the machine of
:mod:`.networks.checkpoints.pickle_machine`, in which a class is only a name and an object only a record of its
class and state. So a network pickled years ago, with classes that no longer exist, gives up its tensors, and a file
that asks for ``os.system`` gets an error.

Both containers of ``torch.save`` are read: the zip of torch 1.6 and later, and the older stream of pickles.
"""

from __future__ import annotations

import errno
import io
import math
import os
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

from emobeam.emo_transforms.networks.checkpoints.pickle_machine import Machine
from emobeam.emo_transforms.networks.checkpoints.pickle_policy import PickleRefused, Record, Storage, Stored, told

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_OF_FILE, _LEAST_BYTES = 20, 1 << 24
"""Bytes of tensors that a file may ask for: so many times its size, but always so many."""
_MOST_PARTS, _LONGEST_NAME = 100_000, 4000
"""Modules and tensors of a network together, and letters of a module's dotted name."""


@dataclass(frozen=True)
class Pickled:
    """What a torch pickle holds.

    Attributes:
        content: plain containers, numbers, text, tensors, :class:`Name` and :class:`Record`.
        kind: class of the outermost object, as ``module.Class``; ``""`` for plain containers.
    """

    content: Any
    kind: str


def read_pickle(path: str) -> Pickled:
    """Reads a file that ``torch.save`` wrote, executing nothing of it.

    Raises:
        PickleRefused: it is neither of torch's formats, damaged, or asks for a call that isn't allowed.
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        try:
            content = _read_zip(file) if zipped else _read_legacy(file)
        except PickleRefused:
            raise
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Damage can point outside of the archive.
            raise PickleRefused(f"damaged or no torch pickle ({error})") from error
        except RecursionError as error:
            raise PickleRefused("its objects are nested too deeply") from error
        except Exception as error:  # whatever bytes may do to parsers
            raise PickleRefused(f"damaged or no torch pickle ({type(error).__name__}: {error})") from error
    return Pickled(content, str(content.kind) if isinstance(content, Record) else "")


def is_module(value: Any) -> bool:
    """Whether a value is the record of a torch module."""
    return isinstance(value, Record) and all(
        isinstance(value.state.get(part), dict) for part in ("_parameters", "_buffers", "_modules")
    )


def module_state(module: Record) -> dict[str, Tensor]:
    """The ``state_dict`` of a recorded module: parameters and persistent buffers by dotted name.

    Raises:
        PickleRefused: it isn't a module throughout.
    """
    return dict(_walk(module, "", (), iter(range(_MOST_PARTS))))


def _walk(module: Any, prefix: str, above: tuple[int, ...], left: Iterator[int]) -> Iterator[tuple[str, Tensor]]:
    """``left`` has an item for each module and tensor yet: modules that share modules could come to any number."""
    if len(prefix) > _LONGEST_NAME or next(left, None) is None:
        raise PickleRefused(f"it has more than {_MOST_PARTS} modules and tensors, or names longer than any network's")
    if not is_module(module):
        raise PickleRefused(f"{told(prefix) if prefix else 'the outermost object'} is no torch module")
    if id(module) in above:
        raise PickleRefused(f"module {told(prefix)} holds itself")
    state = module.state
    dropped = state.get("_non_persistent_buffers_set", ())
    for part in ("_parameters", "_buffers"):
        for name, tensor in state[part].items():
            if next(left, None) is None:
                raise PickleRefused(f"it has more than {_MOST_PARTS} modules and tensors")
            if tensor is None or (part == "_buffers" and name in dropped):
                continue
            if not isinstance(tensor, Tensor):
                raise PickleRefused(f"{told(f'{prefix}{name}')} is no tensor")
            yield f"{prefix}{name}", tensor
    for name, child in state["_modules"].items():
        if child is not None:
            yield from _walk(child, f"{prefix}{name}.", (*above, id(module)), left)


def _read_zip(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in entries if name.rsplit("/", 1)[-1] == "data.pkl"]
        if len(roots) != 1:
            raise PickleRefused("a zip archive that torch.save didn't write (no data.pkl)")
        root = roots[0]
        program, order = entries[f"{root}data.pkl"], entries.get(f"{root}byteorder")
        # What is compressed may be anything, however small it says it is.
        if any(each is not None and each.compress_type != zipfile.ZIP_STORED for each in (program, order)):
            raise PickleRefused("a zip archive that torch.save didn't write (compressed)")
        if f"{root}constants.pkl" in entries:
            raise PickleRefused("a TorchScript archive, which holds a program; ask for the state_dict or ONNX file")
        if order is not None and archive.read(order).strip() != sys.byteorder.encode():
            raise PickleRefused("its numbers have another machine's byte order")

        def numbers(storage: Storage) -> bytes:
            entry = entries.get(f"{root}data/{storage.key}")
            expected = storage.length * storage.dtype.itemsize
            if entry is None or entry.file_size != expected or entry.compress_type != zipfile.ZIP_STORED:
                raise PickleRefused(f"storage {told(storage.key)} doesn't hold the {expected} bytes it should")
            return archive.read(entry)

        machine = Machine()
        return _resolved(machine.run(io.BytesIO(archive.read(program))), numbers, _most_bytes(file))


def _read_legacy(file: IO[bytes]) -> Any:
    if file.read(1) != b"\x80":
        raise PickleRefused("neither of the formats that torch.save writes")
    file.seek(0)
    if Machine().run(file) != _LEGACY_MAGIC:
        raise PickleRefused("a pickle, but not one that torch.save wrote")
    version, system = Machine().run(file), Machine().run(file)
    if (
        version != 1001
        or not isinstance(system, dict)
        or system.get("little_endian") is not (sys.byteorder == "little")
    ):
        raise PickleRefused(f"version {version} of torch's format, or another machine's byte order")
    machine = Machine()
    content = machine.run(file)
    keys = Machine().run(file)
    held: dict[str, bytes] = {}
    for key in keys:
        storage = machine.storages.get(key)
        if storage is None:
            raise PickleRefused(f"it holds numbers {told(key)} that no tensor uses")
        (length,) = struct.unpack("<q", file.read(8))
        expected = length * storage.dtype.itemsize
        there = 0 <= length == storage.length and expected <= _size(file)
        held[key] = file.read(expected) if there else b""

    def numbers(storage: Storage) -> bytes:
        data = held.get(storage.key, b"")
        if len(data) != storage.length * storage.dtype.itemsize:
            raise PickleRefused(f"storage {told(storage.key)} is cut off")
        return data

    return _resolved(content, numbers, _most_bytes(file))


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _most_bytes(file: IO[bytes]) -> int:
    return max(_LEAST_BYTES, _MOST_OF_FILE * _size(file))


def _resolved(content: Any, numbers: Callable[[Storage], bytes], most: int) -> Any:
    """Replaces stored tensors by real ones, in place where containers can change.

    Tensors that are the same view of the same storage are one; ``most`` bounds the bytes of all of them together.
    """
    held: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}
    left = most
    seen: dict[int, tuple[Any, Any]] = {}  # the originals too: an id is good for as long as its object lives

    def take(count: int, dtype: torch.dtype) -> None:
        nonlocal left
        left -= count * dtype.itemsize
        if left < 0:
            raise PickleRefused(f"its tensors take more than {most / 1e6:.0f} MB, far more than the file holds")

    def numbers_of(storage: Storage) -> Tensor:
        if storage.key not in held:
            take(storage.length, storage.dtype)
            data = numbers(storage)
            empty = torch.empty(0, dtype=storage.dtype)
            held[storage.key] = torch.frombuffer(bytearray(data), dtype=storage.dtype) if data else empty
        return held[storage.key]

    def tensor_of(stored: Stored) -> Tensor:
        view = repr((stored.storage.key, stored.offset, stored.size, stored.stride))  # text: nobody chooses its hash
        if view not in made:
            numbers = numbers_of(stored.storage)
            _check(stored, numbers)
            take(math.prod(stored.size), stored.storage.dtype)
            made[view] = numbers.as_strided(stored.size, stored.stride, stored.offset).clone(
                memory_format=torch.contiguous_format
            )
        return made[view]

    def of(value: Any) -> Any:
        if id(value) in seen:
            return seen[id(value)][1]
        if isinstance(value, Stored):
            seen[id(value)] = value, tensor_of(value)
        elif isinstance(value, tuple):
            seen[id(value)] = value, tuple([of(item) for item in value])
        elif isinstance(value, (dict, list, Record)):
            seen[id(value)] = value, value
            if isinstance(value, dict):
                value.update({key: of(item) for key, item in value.items()})
            elif isinstance(value, list):
                value[:] = [of(item) for item in value]
            else:
                value.arguments, value.state = of(value.arguments), of(value.state)
        else:
            return value
        return seen[id(value)][1]

    return of(content)


def _check(stored: Stored, storage: Tensor) -> None:
    size, stride = stored.size, stored.stride
    count = math.prod(size)
    last = stored.offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min((*size, *stride, stored.offset)) < 0 or count > len(storage) or (count and last >= len(storage)):
        raise PickleRefused(f"a tensor of shape {list(size)} reaches beyond its {len(storage)} numbers")
