"""From the arguments of a function to the options of its command: checked and converted by the command's own types."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from emobeam.schemas.records import UsageError

Place = str | os.PathLike[str]
"""A path or URI."""

_OURS = {"progress", "beam_args", "more"}
"""Arguments that are no options of a command."""


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options among the arguments of a function, those in ``more`` beside the others."""
    plain = {name: value for name, value in arguments.items() if name not in _OURS}
    return plain | dict(arguments.get("more", {}))


def checked(command: str, told: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Values of all options of a command, checked and converted by the command's own types.

    Returns:
        The values by name, and the names of those that differ from their default.

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
        if name in told and told[name] is not None:
            try:
                value = param.type_cast_value(ctx, _plain(param, told[name]))
            except click.BadParameter as error:
                raise UsageError(f"{name}: {error.message}") from error
        values[name] = value
        if value != default:
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
