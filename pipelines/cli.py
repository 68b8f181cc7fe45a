"""The console script ``emobeam``. Options it doesn't own follow ``--`` and go to Beam.

Exit codes: 0 all inputs fine, 1 some input failed or the run had to stop, 2 the command made no sense; 130 stopped by
Ctrl-C, 143 by SIGTERM, which ends a job in the same way.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from emobeam.pipelines.commands import (
    challenge,
    compare,
    material,
    models,
    pretrain,
    results,
    stages,
    studies,
    train,
)
from emobeam.pipelines.commands.help_text import finish
from emobeam.pipelines.commands.invocation import Invocation, outlive_readers, unquoted_path
from emobeam.pipelines.printing import echo, open_closed_streams, scarce
from emobeam.pipelines.stopping import Stops
from emobeam.runners.beam_noise import quieten
from emobeam.runners.own_version import own_version
from emobeam.schemas.records import EmobeamError

_WITH_TORCH = frozenset({"train", "compare", "pretrain", "render", "pseudo-label", "models"})
"""Commands that import torch into this process."""

_SETTINGS = {"show_default": True, "max_content_width": 110, "help_option_names": ["-h", "--help"]}


def _tell_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        echo(f"emobeam, version {own_version()}")
        ctx.exit()


@click.group(context_settings=_SETTINGS)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_tell_version, help="Show the version."
)
def cli() -> None:
    """Turns videos into per-frame facial-affect annotations.

    Stage 1 finds faces and caches feature maps (extract), stage 2 runs temporal heads over the cache (predict);
    annotate does both. Paths may be URIs (gs://, s3://). Options after -- go to Apache Beam.

    \b
    Example:
      emobeam annotate talk.mp4 --output out/
    """


for command in (
    stages.annotate,
    stages.extract,
    stages.predict,
    stages.inspect_,
    stages.plan,
    challenge.submit,
    challenge.validate,
    challenge.score,
    challenge.tune,
    train.train,
    compare.compare,
    pretrain.pretrain,
    material.render,
    material.pseudo_label,
    models.models,
    results.report,
    results.export,
    results.overlay,
    studies.events,
    studies.summarise,
    studies.agree,
):
    cli.add_command(command)
finish(cli)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    if argv is None:
        open_closed_streams()
        outlive_readers()
    args = list(sys.argv[1:] if argv is None else argv)
    split = args.index("--") if "--" in args else len(args)
    ours, beam_args = args[:split], args[split + 1 :]
    # Beam logs while it is imported, so this can't wait until the command has parsed its flags.
    verbose = "-v" in ours or "--verbose" in ours
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
    quieten()
    if not verbose:
        warnings.simplefilter("ignore")
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # tells of each try, at length, what its error says
    if argv is None and ours[:1] and ours[0] in _WITH_TORCH:
        from emobeam.emo_transforms.storage.leftovers import own_torch_folder

        own_torch_folder()
    stops = Stops()
    try:
        with stops.heard():
            code = cli.main(
                ours,
                prog_name="emobeam",
                standalone_mode=False,
                obj=Invocation(tuple(beam_args), own_process=argv is None),
            )
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        echo(shown.getvalue(), err=True, nl=False)
        _tell_unquoted(ours)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        echo("stopped; the same command goes on where this one ended", err=True)
        code = stops.code
        if argv is None:
            _leave(code)
    except EmobeamError as error:
        code = _exit_code(error)
        echo(f"error: {error}" if code else str(error), err=True)
        if code == _SENSELESS:
            _tell_unquoted(ours)
    except BrokenPipeError:
        raise
    except Exception as error:
        if (text := scarce(error)) is None:
            raise
        echo(f"error: {text}", err=True)
        code = 1
    if argv is None:
        _leave(code or 0)
    sys.exit(code or 0)


_SENSELESS = 2


def _tell_unquoted(words: Sequence[str]) -> None:
    if hint := unquoted_path(words):
        echo(hint, err=True)


def _leave(code: int) -> NoReturn:
    """Ends the process at once: to take torch and Beam apart in good order costs the interpreter more than a second."""
    atexit._run_exitfuncs()  # noqa: SLF001 - os._exit leaves them out
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone, as head does
            stream.flush()
    os._exit(code)


def _exit_code(error: EmobeamError) -> int:
    from emobeam.emo_transforms.storage import OutputError
    from emobeam.pipelines.printing import NotPrinted
    from emobeam.runners.children.settings import RunStopped
    from emobeam.runners.engines.dataflow import Detached

    if isinstance(error, Detached):
        return 0
    return 1 if isinstance(error, (OutputError, RunStopped, NotPrinted)) else _SENSELESS
