"""What all commands have in common in their help: sections, examples at the end, words for numbers, ``--verbose``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import click

from emobeam.pipelines.commands.options import SectionedOption
from emobeam.schemas.options import Section

Sections = Mapping[str, Sequence[str]]
"""Options by the title they stand under, in this order; those that are named nowhere and don't know stand first."""

_EXAMPLES = ("\b\nExample:\n", "\b\nExamples:\n")
_MESSAGES = ("--json", "--quiet", "--verbose", "--help")
_FIRST_COLUMN = 30

JOBS: Sections = {**{str(section): () for section in Section if section}, "Messages": _MESSAGES}
"""Of annotate, extract, predict and plan, whose options know where they stand."""

TRAINING: Sections = {
    "Network and recipe": (
        "--recipe",
        "--architecture",
        "--architectures",
        "--levels",
        "--form",
        "--window",
        "--backbone",
        "--start",
        "--backbone-weights",
        "--loss",
        "--classes",
        "--input-size",
        "--batch",
        "--epochs",
        "--sam",
        "--precision",
        "--set",
        "--seed",
        "--seeds",
    ),
    "What is held out, and judged": (
        "--holdout",
        "--partition",
        "--allow-official-validation",
        "--subjects",
        "--truth",
        "--truth-partition",
        "--edition",
        "--validation",
        "--experimental",
    ),
    "Machine": (
        "--device",
        "--buffer-mb",
        "--readers",
        "--threads",
        "--workers",
        "--checkpoint-minutes",
        "--restart",
    ),
    "Messages": _MESSAGES,
}
"""Of train, compare and pretrain."""

SCORING: Sections = {
    "Post-processing": ("--post", "--gate", "--head", "--threshold", "--smoothing"),
    "Intervals": ("--resamples", "--seed"),
    "Messages": ("--per-video", *_MESSAGES),
}
"""Of submit, score and tune."""


class SectionedCommand(click.Command):
    """A command whose options stand under titles in its help. Parsing is click's own.

    Args:
        sections: what stands where; a title without options of this command is left out.
    """

    def __init__(self, *args: Any, sections: Sections, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, section by section, with one width of the first column."""
        shown: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *self.sections)}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and not isinstance(option, click.Argument):
                shown[self._title_of(option)].append(record)
        longest = max(len(names) for records in shown.values() for names, _ in records)
        for title, records in shown.items():
            if records:
                (names, text), *others = records
                with formatter.section(title):
                    formatter.write_dl([(names.ljust(min(longest, _FIRST_COLUMN)), text), *others], _FIRST_COLUMN)

    def _title_of(self, option: click.Parameter) -> str:
        if isinstance(option, SectionedOption) and option.section:
            return option.section
        titles = (title for title, names in self.sections.items() if set(names) & set(option.opts))
        return next(titles, "Options")


def finish(command: click.Command) -> click.Command:
    """Puts the examples of a command, and of all below it, behind its options, and gives each the option -v.

    Numbers are called ``N`` (whole), ``0..1`` or ``NUMBER`` where an option has no word of its own for them.
    A command's docstring ends in a paragraph that begins with ``\\b`` and ``Example:`` or ``Examples:``.
    """
    if isinstance(command, click.Group):
        for other in command.commands.values():
            finish(other)
    text = inspect.cleandoc(command.help or "") + "\n"
    for heading in _EXAMPLES:
        before, found, examples = text.rpartition(heading)
        if found and not command.epilog:
            command.help = before.rstrip()
            command.epilog = found + examples.rstrip()
    known = {name for option in command.params for name in option.opts}
    if not known & {"-v", "--verbose"} and not isinstance(command, click.Group):
        command.params.append(
            click.Option(
                ["-v", "--verbose"],
                is_flag=True,
                expose_value=False,
                help="Let libraries write to standard error.",
            )
        )
    for option in command.params:
        if option.metavar is None and not getattr(option, "is_flag", False):
            option.metavar = _word(option.type)
    return command


def _word(kind: click.ParamType) -> str | None:  # type: ignore[type-arg]  # generic only in recent versions of click
    if isinstance(kind, click.FloatRange) and (kind.min, kind.max) == (0, 1):
        return "0..1"
    if isinstance(kind, type(click.FLOAT)):
        return "NUMBER"
    return "N" if isinstance(kind, type(click.INT)) else None
