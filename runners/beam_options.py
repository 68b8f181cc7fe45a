"""Beam's own options: what may follow ``--`` on the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

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
        return  # importing Beam takes a second
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    parser = _BeamArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    if runner == "spark":
        _, args = split_spark_settings(args)
    try:
        known, unknown = parser.parse_known_args(list(args))
    except (argparse.ArgumentError, SystemExit) as error:
        raise UsageError(f"after --: {error}") from error
    java = runner in ("flink", "spark")
    unknown = [name for name in unknown if not (java and re.fullmatch(r"--[a-z][a-zA-Z_]*=.*", name))]
    if unknown:
        raise UsageError(f"after --: Beam has no option {unknown[0]}; emobeam's own options stand before --")
    if runner == "dataflow":
        for name, why in _NOT_ON_DATAFLOW.items():
            if getattr(known, name, None) != parser.get_default(name):
                raise UsageError(f"after --: --{name}: {why}")
    for name in _OURS if runner == "direct" else owned_options(runner):
        if getattr(known, name, None) != parser.get_default(name):
            raise UsageError(f"after --: --{name} is set by emobeam; use its own options before --")
