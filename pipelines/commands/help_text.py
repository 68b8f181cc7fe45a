"""What all commands have in common in their help: examples at the end, and ``--verbose``."""

from __future__ import annotations

import inspect

import click

_EXAMPLES = ("\b\nExample:\n", "\b\nExamples:\n")


def finish(command: click.Command) -> click.Command:
    """Puts the examples of a command, and of all below it, behind its options, and gives each the option -v.

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
    return command
