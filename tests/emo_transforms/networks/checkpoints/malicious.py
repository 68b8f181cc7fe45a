"""Objects whose pickles would run something, and the ways to save them."""

from __future__ import annotations

import marshal
import os
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MARK = "EMOBEAM_TEST_MARK"


def leave_mark(*_: Any) -> None:
    """What a malicious file would do if it could."""
    Path(os.environ[MARK]).touch()


def code() -> str:
    return f"open({os.environ[MARK]!r}, 'w').close()"


class Calls:
    """An object whose pickle calls something."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


class Restores:
    """An object that acts when its state is set."""

    def __setstate__(self, state: Any) -> None:
        leave_mark()

    def __getstate__(self) -> Any:
        return {"a": 1}


class Module(nn.Module):
    """A module that acts when its state is set, or is made."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))

    def __setstate__(self, state: Any) -> None:
        leave_mark()
        super().__setstate__(state)  # type: ignore[no-untyped-call]


def system() -> Any:
    return Calls(os.system, f"touch '{os.environ[MARK]}'")


def popen() -> Any:
    return Calls(subprocess.Popen, ["touch", os.environ[MARK]])


def evaluated() -> Any:
    return Calls(eval, f"__import__('pathlib').Path({os.environ[MARK]!r}).touch()")


def executed() -> Any:
    return Calls(exec, code())


def imported() -> Any:
    return Calls(getattr, Calls(__import__, "os"), "system")


def own_function() -> Any:
    return Calls(leave_mark)


def in_a_tensor() -> Any:
    """The call hides in the arguments of a function that is allowed."""
    return Calls(torch._utils._rebuild_parameter, Calls(leave_mark), True, OrderedDict())


def in_an_ordered_dict() -> Any:
    return Calls(OrderedDict, [("a", Calls(leave_mark))])


def through_type() -> Any:
    return Calls(torch._tensor._rebuild_from_type_v2, leave_mark, Tensor, (), {})


def hub() -> Any:
    return Calls(torch.hub.load, os.path.dirname(os.environ[MARK]), "anything")


def nested_load() -> Any:
    return Calls(torch.storage._load_from_bytes, b"whatever")


def compiled_function() -> Any:
    return Calls(marshal.loads, marshal.dumps(compile(code(), "x", "exec")))


def in_module_hooks() -> Any:
    module = nn.Linear(2, 2)
    module._forward_hooks[0] = Calls(leave_mark)  # type: ignore[assignment]
    return module


ATTACKS = [system, popen, evaluated, executed, imported, own_function, in_a_tensor, in_an_ordered_dict]
ATTACKS += [through_type, hub, nested_load, compiled_function, in_module_hooks]

Save = Callable[[Any, Path], None]


def save_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_protocol_4(content: Any, path: Path) -> None:
    torch.save(content, path, pickle_protocol=4)
