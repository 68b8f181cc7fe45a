"""Beam's own options: what may follow ``--`` on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from schemas.records import UsageError

_OURS = ("runner", "direct_num_workers", "direct_running_mode")


def check_beam_args(args: Sequence[str]) -> None:
    """Refuses options that Beam doesn't know (Beam itself drops them without a word) or that emobeam sets.

    Raises:
        UsageError: naming the option and what to do.
    """
    parser = _BeamArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    try:
        known, unknown = parser.parse_known_args(list(args))
    except (argparse.ArgumentError, SystemExit) as error:
        raise UsageError(f"after --: {error}") from error
    if unknown:
        raise UsageError(f"after --: Beam has no option {unknown[0]}; emobeam's own options stand before --")
    for name in _OURS:
        if getattr(known, name, None) != parser.get_default(name):
            raise UsageError(f"after --: --{name} is set by emobeam; use --runner and --workers before --")
