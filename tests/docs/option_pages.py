"""What is written out of the declared options: docs/options.md for people, emobeam/option_types.py for type checkers.

``make options`` writes both anew; tests hold that they are what the configs declare.
"""

from __future__ import annotations

from pathlib import Path

import click

from emobeam.arguments import annotation_of, options_for
from emobeam.pipelines.cli import cli
from emobeam.pipelines.job_options import JOB_OPTIONS, ONLY_PRINTED
from emobeam.schemas.options import Option, OptionField, Section

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("extract", "predict", "annotate")

_TYPES = '''"""Types of the options of functions, for type checkers; written from the configs by ``make options``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from emobeam.arguments import Place
'''

_PAGE = """# Options of annotate, extract, predict and plan

Every option is declared once, at the field of the config that it sets; this page is written from there by
`make options`, and `emobeam COMMAND --help` says the same. In Python an option has the same name, with `_` for `-`,
unless another is given here: those that are repeated on the command line are plural, and take one value or a list.
Limits stand behind the default.
"""

_FIRST = "Places, and what plan is asked"


def option_types() -> str:
    """The source of ``emobeam/option_types.py``."""
    text = _TYPES
    for name in FUNCTIONS:
        text += f'\n\nclass {name.capitalize()}Options(TypedDict, total=False):\n    """Of ``emobeam.{name}``."""\n\n'
        fields = [field for field in options_for(name) if not field.required]
        text += "".join(f"    {field.name}: {annotation_of(field)}\n" for field in fields)
    return text


def option_page() -> str:
    """The text of ``docs/options.md``."""
    rows: dict[tuple[str, Option], tuple[OptionField, list[str]]] = {}
    for command, fields in JOB_OPTIONS.items():
        for field in fields:
            rows.setdefault((field.name, field.option), (field, []))[1].append(command)
    text = _PAGE
    for section in Section:
        text += f"\n## {section or _FIRST}\n\n| option | default | of | what it does |\n|---|---|---|---|\n"
        for field, commands in rows.values():
            if field.option.section is section:
                cells = (_written(field, commands), _default(field), _of(commands), field.option.help)
                text += "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    return text


def _written(field: OptionField, commands: list[str]) -> str:
    command = cli.commands[commands[0]]
    param = next(param for param in command.params if param.name == field.name)
    word = "" if field.kind is bool else param.make_metavar(click.Context(command)).strip("[]")
    flags = ", ".join(filter(None, (field.option.short, field.flag)))
    other = field.flag != f"--{field.name.replace('_', '-')}" and field.name not in ONLY_PRINTED
    python = f", in Python `{field.name}`" if other and {*commands} & {*FUNCTIONS} else ""
    return f"`{f'{flags} {word}'.rstrip()}`{python}"


def _default(field: OptionField) -> str:
    unset, option = field.unset, field.option
    if field.required:
        return "required"
    shown = option.told or ("" if unset in ("", None, ()) or field.kind is bool else f"`{field.written(unset)}`")
    limits = " to ".join(f"{limit:g}" for limit in (option.least, option.most) if limit is not None)
    if limits and option.most is None:
        limits = f"at least {limits}"
    return f"{shown} ({limits})".lstrip() if limits else shown


def _of(commands: list[str]) -> str:
    return "all" if len(commands) == len(JOB_OPTIONS) else ", ".join(commands)


def main() -> None:
    """Writes both files."""
    (ROOT / "emobeam" / "option_types.py").write_text(option_types(), encoding="utf-8")
    (ROOT / "docs" / "options.md").write_text(option_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
