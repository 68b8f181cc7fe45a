"""Options of the command line: made from the configs that declare them, or shared by several commands by hand.

Imports nothing heavy: ``--help`` stays fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from emobeam.schemas.options import OptionField
from emobeam.schemas.tasks import TASKS

F = TypeVar("F", bound=Callable[..., Any])


class _Fps(click.ParamType):  # type: ignore[type-arg]  # generic only in recent versions of click
    name = "number|native"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N|native"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == "native" or value == 0:
            return 0.0
        try:
            fps = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'native'", param, ctx)
        if not 0 < fps <= 1000:
            self.fail(f"{value} is not a rate in frames per second", param, ctx)
        return fps


class _Names(click.ParamType):  # type: ignore[type-arg]  # generic only in recent versions of click
    """Comma-separated names out of a fixed set, in the order of the set."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.name = ",".join(known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in names if name not in self.known]
        if unknown or not names:
            self.fail(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(self.known)}", param, ctx)
        return tuple(name for name in self.known if name in names)


FRACTION = click.FloatRange(0, 1)


def task_option(*, required: bool = False, multiple: bool = False, text: str = "Challenge task.") -> Callable[[F], F]:
    """The option ``--task``, with the names of all tasks."""
    name = ("--task", "tasks") if multiple else ("--task",)
    return click.option(*name, type=click.Choice(sorted(TASKS)), required=required, multiple=multiple, help=text)


class SectionedOption(click.Option):
    """An option that knows the title it stands under; ``""`` is none."""

    def __init__(self, *args: Any, section: str = "", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section


def declared(fields: Iterable[OptionField]) -> Callable[[F], F]:
    """Gives a command the options that configs declare."""

    def decorate(command: F) -> F:
        for field in reversed(list(fields)):
            made = {"cls": SectionedOption, "section": field.option.section, **_attributes(field)}
            command = click.option(*_flags(field), **made)(command)
        return command

    return decorate


def _flags(field: OptionField) -> tuple[str, ...]:
    short = (field.option.short,) if field.option.short else ()
    return (*short, field.flag, field.name)


def _attributes(field: OptionField) -> dict[str, Any]:
    option, unset = field.option, field.unset
    text = f"{option.help}  [default: {option.told}]" if option.told else option.help
    if field.kind is bool:
        return {"is_flag": True, "flag_value": not unset, "default": unset, "show_default": False, "help": text}
    several = field.kind is tuple and not option.names
    if option.names and unset is not None:
        unset = field.written(unset)
    return {
        "type": _type_of(field),
        "multiple": several,
        "required": field.required,
        "default": None if several else unset,
        "show_default": False if unset == "" else None,
        "metavar": option.metavar or None,
        "help": text,
    }


def _type_of(field: OptionField) -> click.ParamType:  # type: ignore[type-arg]  # generic only in recent versions of click
    option = field.option
    if option.choices:
        return click.Choice(option.choices)
    if option.names:
        return _Names(*option.names)
    if option.word_for_zero:
        return _Fps()
    if field.kind not in (int, float):
        return click.STRING
    if option.least is None and option.most is None:
        return click.INT if field.kind is int else click.FLOAT
    limits: Any = (option.least, option.most)
    return click.IntRange(*limits) if field.kind is int else click.FloatRange(*limits)


inputs = click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
