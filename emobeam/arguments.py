"""Between the arguments of functions and the options of commands: the same names, defaults, types and checks."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from emobeam.pipelines.job_options import JOB_OPTIONS, ONLY_PRINTED
from emobeam.schemas.options import OptionField
from emobeam.schemas.records import UsageError

Place = str | os.PathLike[str]
"""A path or URI."""

F = TypeVar("F", bound=Callable[..., Any])

_OURS = {"progress", "beam_args", "more"}
"""Arguments that are no options of a command."""


class UnknownOption(UsageError, TypeError):
    """No option of a command is called so; to Python, an argument that the function doesn't take."""


def options_for(command: str) -> list[OptionField]:
    """The options of a job that mean something to a function."""
    return [field for field in JOB_OPTIONS[command] if field.name not in ONLY_PRINTED]


def takes_options(function: F) -> F:
    """Shows the options of the command of the same name in the signature and the documentation of a function.

    The function's last argument is ``**options``; type checkers know of them by :mod:`emobeam.option_types`.
    """
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    fields = [field for field in options_for(function.__name__) if field.name not in signature.parameters]
    made = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.unset, annotation=annotation_of(field)
        )
        for field in fields
    ]
    at = next(index for index, each in enumerate(own) if each.name in _OURS)
    shown = signature.replace(parameters=[*own[:at], *made, *own[at:]])
    function.__signature__ = shown  # type: ignore[attr-defined]  # inspect and help() go by it
    lines = [f"    {field.name}: {_described(field)}" for field in fields]
    function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options:", *lines])
    return function


def annotation_of(field: OptionField) -> str:
    """The type of an option in Python, as source text."""
    option = field.option
    if option.place:
        kind = "Place"
    elif field.kind is tuple:
        kind = "str"
    elif option.choices:
        kind = f"Literal[{', '.join(map(json.dumps, option.choices))}]"
    else:
        kind = field.kind.__name__
    if option.word_for_zero:
        kind = f"{kind} | Literal[{json.dumps(option.word_for_zero)}]"
    if field.kind is tuple or option.listed:
        kind = f"{kind} | Sequence[{kind}]"
    return f"{kind} | None" if field.unset is None and not field.required else kind


def _described(field: OptionField) -> str:
    told = field.option.told  # other defaults stand in the signature
    return f"{field.option.help} Default: {told}." if told else field.option.help


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options among the arguments of a function, those in ``more`` beside the others."""
    plain = {name: value for name, value in arguments.items() if name not in _OURS}
    return plain | dict(arguments.get("more", {}))


def checked(command: str, told: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Values of all options of a command, checked and converted by the command's own types.

    Args:
        told: what the caller wrote, by the names of the options; None is as if it were not written.

    Returns:
        The values by name, and the names of those that the caller wrote, whatever their values: ``faces="main"`` asks
        for the main face, where without it those that were asked for before stay.

    Raises:
        UnknownOption: no such option; it is a ``TypeError``, too.
        UsageError: a value is wrong.
    """
    import click

    from emobeam.pipelines.cli import cli

    found = cli.commands[command]
    ctx = click.Context(found, info_name=command)
    known = {param.name: param for param in found.params if param.name}
    if unknown := sorted(set(told) - set(known)):
        raise UnknownOption(f"{command}() has no option {', '.join(unknown)}; see emobeam {command} --help")
    values, named = {}, set()
    for name, param in known.items():
        values[name] = _default(param, ctx)
        if told.get(name) is None:
            continue
        named.add(name)
        try:
            values[name] = param.type_cast_value(ctx, _plain(param, told[name]))
        except click.BadParameter as error:
            raise UsageError(f"{name}: {error.message}") from error
    return values, frozenset(named)
    return values, frozenset(named)


def _default(param: Any, ctx: Any) -> Any:
    default = param.get_default(ctx)
    # Where an option has none, click's versions differ in what stands for it.
    if not isinstance(default, (str, int, float, bool, list, tuple)):
        return () if _several(param) else None
    return param.type_cast_value(ctx, default)


def _several(param: Any) -> bool:
    return bool(param.multiple or param.nargs == -1)


def _plain(param: Any, value: Any) -> Any:
    """A Python value as a user would write it on the command line."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if param.nargs > 1:
        return tuple(value)
    if _several(param):
        return [value] if isinstance(value, str) else [_text(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) else ",".join(str(_text(each)) for each in value)


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value
