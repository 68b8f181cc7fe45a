"""An option is written once: the field of a frozen config, with what people are told of it.

    stride: Annotated[int, Option("Frames between windows.", Section.HEADS, least=0)] = 0

The command line, the Python signature, the tables of docs/options.md and the commands that ``emobeam inspect`` prints
are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class _FieldsDefault:
    """The default of the field itself, see :attr:`Option.unset`."""


FIELDS_DEFAULT: Final = _FieldsDefault()


class Section(StrEnum):
    """Titles under which options stand, in this order; those without one stand first."""

    NONE = ""
    VIDEOS = "Videos"
    CROPS = "Folders of cropped faces"
    FACES = "Faces"
    BACKBONE = "Backbone and cache"
    HEADS = "Heads and predictions"
    CHALLENGE = "Challenge"
    MACHINES = "Where it runs"
    CLUSTERS = "Flink and Spark"
    DATAFLOW = "Dataflow"
    MESSAGES = "Messages"


@dataclass(frozen=True)
class Option:
    """What people are told of a field, and what they may write.

    Attributes:
        help: a sentence or two.
        section: where it stands.
        name: in Python, and on the command line with ``-`` for ``_``; ``""``: that of the field.
        flag: on the command line, where that is another word; of a field that is true by itself, the one that clears
            it.
        short: a second flag, of one letter.
        metavar: the word for its value, with the unit of measure; ``""``: one made from type and choices.
        unset: the value where nobody writes the option, if not the field's own default. None stands for what can't be
            known without looking at the inputs; ``auto`` is a word of that kind.
        told: what is told instead of that value.
        least, most: limits of a number, both allowed.
        choices: the only values; of a tuple, of each entry.
        names: the only entries of a tuple, which is written as one text with commas, in the order of this set.
        word_for_zero: of a rate in frames per second, what 0 is called.
        listed: a text that names several things, with commas; Python takes a list, too.
        place: a path or URI.
        runners: engines it belongs to; empty: all.
    """

    help: str
    section: Section = Section.NONE
    name: str = ""
    flag: str = ""
    short: str = ""
    metavar: str = ""
    unset: Any = FIELDS_DEFAULT
    told: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    word_for_zero: str = ""
    listed: bool = False
    place: bool = False
    runners: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptionField:
    """An option and the field that declares it.

    Attributes:
        path: names of fields from the config that was asked about down to this one.
        kind: ``int``, ``float``, ``bool``, ``str`` or ``tuple`` (of texts).
        default: of the field; ``dataclasses.MISSING`` where it has none.
    """

    path: tuple[str, ...]
    kind: type
    default: Any
    option: Option

    @property
    def name(self) -> str:
        """What Python calls it."""
        return self.option.name or self.path[-1]

    @property
    def flag(self) -> str:
        """What the command line calls it."""
        return self.option.flag or f"--{self.name.replace('_', '-')}"

    @property
    def unset(self) -> Any:
        """The value where nobody writes the option; None where it has none, or the inputs decide."""
        own = isinstance(self.option.unset, _FieldsDefault)
        value = self.default if own else self.option.unset
        return None if value is MISSING else value

    @property
    def required(self) -> bool:
        """Whether it has to be written."""
        return self.default is MISSING and isinstance(self.option.unset, _FieldsDefault)

    def of(self, config: Any) -> Any:
        """The value in a config of the kind that was asked about."""
        for name in self.path:
            config = getattr(config, name)
        return config

    def written(self, value: Any) -> str:
        """A value as it is written on the command line."""
        if isinstance(value, tuple):
            return ",".join(value)
        if self.option.word_for_zero and not value:
            return self.option.word_for_zero
        return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def options_of(*configs: type, without: tuple[str, ...] = ()) -> tuple[OptionField, ...]:
    """The options of configs, section by section, else in the order of the fields; each name once.

    Args:
        configs: dataclasses, whose fields may be dataclasses themselves.
        without: names to leave out.

    Raises:
        ValueError: two different options have one name.
    """
    found: dict[str, OptionField] = {}
    for config in configs:
        for field in _fields_of(config):
            if found.setdefault(field.name, field).option != field.option:
                raise ValueError(f"{config.__name__}.{'.'.join(field.path)}: another option is called {field.name}")
    order = list(Section)
    return tuple(
        sorted(
            (field for name, field in found.items() if name not in without),
            key=lambda field: order.index(field.option.section),
        )
    )


def values_of(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields of a config get from the values of its options.

    Args:
        values: by the options' names; None, or a name that is missing, leaves a field its default.

    Returns:
        By the names of the fields; those without an option are left out, unless they hold configs themselves.
    """
    hints = get_type_hints(config, include_extras=True)
    given: dict[str, Any] = {}
    for field in fields(config):
        bare, option = _declared(hints[field.name])
        if option is not None:
            value = values.get(option.name or field.name)
            if value is not None:
                given[field.name] = value
        elif isinstance(bare, type) and is_dataclass(bare) and field.default_factory is not MISSING:
            given[field.name] = from_options(bare, values)
    return given


def from_options(config: Callable[..., T], values: Mapping[str, Any]) -> T:
    """A config with the values of its options, see :func:`values_of`; each other field has its default."""
    return config(**values_of(config, values))  # type: ignore[arg-type]  # a dataclass


def _fields_of(config: type, path: tuple[str, ...] = ()) -> list[OptionField]:
    hints = get_type_hints(config, include_extras=True)
    found = []
    for field in fields(config):
        bare, option = _declared(hints[field.name])
        if option is not None:
            several = get_origin(bare) in (tuple, Sequence)
            kind = bare if bare in (int, float, bool) else tuple if several else str
            found.append(OptionField((*path, field.name), kind, field.default, option))
        elif isinstance(bare, type) and is_dataclass(bare):
            found += _fields_of(bare, (*path, field.name))
    return found


def _declared(hint: Any) -> tuple[Any, Option | None]:
    """The plain type of a field, of ``X | None`` the X, and its option if it has one."""
    option = None
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        option = next((note for note in notes if isinstance(note, Option)), None)
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return (kinds[0] if NoneType in get_args(hint) and len(kinds) == 1 else hint), option
