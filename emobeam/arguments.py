"""From the arguments of a function to the options of its command: checked and converted by the command's own types."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from emobeam.schemas.records import UsageError

Place = str | os.PathLike[str]
"""A path or URI."""

P = ParamSpec("P")
R = TypeVar("R")

_OURS = {"progress", "beam_args", "more"}
"""Arguments that are no options of a command."""

_WRITTEN = "_written"


def notes_written(function: Callable[P, R]) -> Callable[P, R]:
    """For functions with ``**more``: adds to it which options the caller wrote, see :func:`written`.

    ``faces="main"`` asks for the main face; without it those that were asked for before stay. The value is the same.
    """
    plain: Callable[..., R] = function

    @wraps(function)
    def call(*args: Any, **options: Any) -> R:
        return plain(*args, **options, **{_WRITTEN: frozenset(options)})

    return call


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options among the arguments of a function, those in ``more`` beside the others."""
    plain = {name: value for name, value in arguments.items() if name not in _OURS}
    more = {name: value for name, value in arguments.get("more", {}).items() if name != _WRITTEN}
    return plain | more


def written(arguments: Mapping[str, Any]) -> frozenset[str]:
    """Names of the options that the caller of a function wrote, whatever their values; see :func:`notes_written`."""
    names: frozenset[str] = arguments["more"][_WRITTEN]
    return names


def checked(
    command: str, told: Mapping[str, Any], written: Collection[str] = ()
) -> tuple[dict[str, Any], frozenset[str]]:
    """Values of all options of a command, checked and converted by the command's own types.

    Args:
        told: values by the name of the option; None is its default.
        written: names of those that the caller wrote; the others of ``told`` may hold the defaults of a function.

    Returns:
        The values by name, and the names of those that the user has set: that were written, or differ from their
        default.

    Raises:
        TypeError: no such option.
        UsageError: a value is wrong.
    """
    import click

    from emobeam.pipelines.cli import cli

    found = cli.commands[command]
    ctx = click.Context(found, info_name=command)
    known = {param.name: param for param in found.params if param.name}
    if unknown := sorted(set(told) - set(known)):
        raise TypeError(f"{command}() has no option {', '.join(unknown)}; see emobeam {command} --help")
    values, named = {}, set()
    for name, param in known.items():
        value = default = _default(param, ctx)
        said = name in told and told[name] is not None
        if said:
            try:
                value = param.type_cast_value(ctx, _plain(param, told[name]))
            except click.BadParameter as error:
                raise UsageError(f"{name}: {error.message}") from error
        values[name] = value
        if value != default or (said and name in written):
            named.add(name)
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
