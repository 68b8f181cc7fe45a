"""Beam's own options: what may follow ``--`` on the command line."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from emobeam.runners.engines.presets import owned_options, split_spark_settings
from emobeam.schemas.records import UsageError

_OURS = ("runner", "direct_num_workers", "direct_running_mode")

_NOT_ON_DATAFLOW = {
    "flexrs_goal": "FlexRS doesn't go with the resource hints that get workers their memory; leave it out",
}
"""Options of Beam that can't be used with these pipelines, and why."""


def check_beam_args(args: Sequence[str], runner: str = "direct") -> None:
    """Refuses options that Beam doesn't know (Beam itself drops them without a word) or that emobeam sets.

    Options of Flink and Spark that only their job server knows pass where they are written ``--name=value``, and so do
    settings of Spark, ``--spark.name=value``.

    Raises:
        UsageError: naming the option and what to do.
    """
    if not args:
        return
    parser = _beam_parser()
    if runner == "spark":
        _, args = split_spark_settings(args)
    helps = [name for name in args if name == "--help" or name.startswith("-h")]  # would print Beam's own help
    try:
        known, unknown = parser.parse_known_args([name for name in args if name not in helps])
    except (argparse.ArgumentError, SystemExit) as error:
        raise UsageError(f"after --: {error}") from error
    java = runner in ("flink", "spark")
    unknown = [name for name in (*helps, *unknown) if not (java and re.fullmatch(r"--[a-z][a-zA-Z_]*=.*", name))]
    if unknown:
        raise UsageError(f"after --: Beam has no option {unknown[0]}; emobeam's own options stand before --")
    if runner == "dataflow":
        for name, why in _NOT_ON_DATAFLOW.items():
            if getattr(known, name, None) != parser.get_default(name):
                raise UsageError(f"after --: --{name}: {why}")
    for name in _OURS if runner == "direct" else owned_options(runner):
        if getattr(known, name, None) != parser.get_default(name):
            raise UsageError(f"after --: --{name} is set by emobeam; use its own options before --")


def _beam_parser() -> argparse.ArgumentParser:
    """Beam's own parser, with all options that Beam knows, as it hands it to those who want to add some."""
    taken: list[argparse.ArgumentParser] = []
    stand_in = logging.NullHandler()
    logging.root.addHandler(stand_in)  # else Beam's options would set up logging in programs that use emobeam
    try:
        PipelineOptions([]).get_all_options(add_extra_args_fn=taken.append)
    finally:
        logging.root.removeHandler(stand_in)
    (parser,) = taken
    parser.exit_on_error = False
    return parser
