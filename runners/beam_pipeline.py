"""Pipelines of Beam that leave nothing in the temporary folder."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def pipeline_without_folder(runner: Any, options: PipelineOptions) -> beam.Pipeline:
    """A pipeline whose folder is gone before it can be left behind.

    Beam makes one for each, for transforms of other languages alone, and removes it only where the run comes to its
    end.

    Args:
        runner: None: the one that the options name.
    """
    pipeline = beam.Pipeline(runner=runner, options=options)
    with suppress(OSError):
        os.rmdir(pipeline.local_tempdir)
    return pipeline
