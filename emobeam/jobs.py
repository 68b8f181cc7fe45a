"""The commands as functions. Every option is checked by the command's own types, so both refuse the same mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from emobeam.arguments import Place, checked, given, takes_options
from emobeam.option_types import AnnotateOptions, ExtractOptions, PredictOptions
from emobeam.results import Annotated, Extracted, Predicted, Score

if TYPE_CHECKING:
    import pyarrow as pa


@takes_options
def extract(
    inputs: Place | Sequence[Place],
    *,
    output: Place,
    beam_args: Sequence[str] = (),
    progress: bool = False,
    **options: Unpack[ExtractOptions],
) -> Extracted:
    """Stage 1, as ``emobeam extract``: videos to a feature cache. What is done already is left as it is.

    Args:
        inputs: a video, a folder (walked), a glob, a table, a cache that stores crops, or several of a kind.
        output: folder of the cache.
        beam_args: options of Apache Beam.
        progress: show a progress bar.
        options: those of the command, with ``_`` for ``-``. Where the input is a cache, an option that isn't written
            is taken from there.

    Warns:
        EmobeamWarning: untrained weights, if any, and whatever else the command would warn of.

    Raises:
        UsageError: an option is wrong, or options contradict each other.
        EmobeamError: the run can't go on. Inputs that fail don't raise: see ``Extracted.ok``.
    """
    args, named = checked("extract", {"inputs": inputs, "output": output, **options})
    from emobeam.telling import Telling, quiet_imports

    with quiet_imports():
        from emobeam.pipelines.requests import extract_request
        from emobeam.pipelines.stages.extract import run_extract
        from emobeam.pipelines.stages.run_summary import extract_summary

    ui = Telling(progress=progress)
    request = extract_request(args, args["output"], tuple(beam_args), named=named)
    result = run_extract(request, ui)
    return Extracted(extract_summary(result, request.output), _rows(result.videos), tuple(ui.warned))


@takes_options
def predict(
    features: Place,
    *,
    output: Place,
    beam_args: Sequence[str] = (),
    progress: bool = False,
    **options: Unpack[PredictOptions],
) -> Predicted:
    """Stage 2, as ``emobeam predict``: a feature cache to predictions of every native frame.

    Args:
        features: folder of the cache.
        output: folder for tables and submission.
        beam_args: options of Apache Beam.
        progress: show a progress bar.
        options: those of the command, with ``_`` for ``-``; ``heads`` and ``tasks`` take one or several. Several heads
            of one task are averaged, different tasks are written apart. Without any, ``au`` has the head that comes
            with emobeam; ``"untrained"`` is a random one, for tests.

    Warns:
        EmobeamWarning: untrained heads, heads used on other features than they were made for, and so on.

    Raises:
        UsageError: an option is wrong, or options contradict each other.
        EmobeamError: cache or head can't be used, or the run can't go on.
    """
    args, named = checked("predict", {"features": features, "output": output, **options})
    from emobeam.telling import Telling, quiet_imports

    with quiet_imports():
        from emobeam.pipelines.requests import predict_request
        from emobeam.pipelines.stages.predict import run_predict
        from emobeam.pipelines.stages.predict_request import check_request
        from emobeam.pipelines.stages.run_summary import predict_summary

    ui = Telling(progress=progress)
    request = predict_request(args, args["features"], tuple(beam_args), named=named)
    check_request(request)
    result = run_predict(request, ui)
    return Predicted(predict_summary(result, request.output), _rows(result.videos), tuple(ui.warned), request.output)


@takes_options
def annotate(
    inputs: Place | Sequence[Place],
    *,
    output: Place,
    beam_args: Sequence[str] = (),
    progress: bool = False,
    **options: Unpack[AnnotateOptions],
) -> Annotated:
    """Both stages, as ``emobeam annotate``: videos to predictions of every native frame, the main job.

    Args:
        inputs: see :func:`extract`.
        output: folder for tables and submission.
        beam_args: options of Apache Beam.
        progress: show a progress bar.
        options: ``features``, the folder of the cache (default: ``features`` in ``output``), and those of
            :func:`extract` and :func:`predict`.

    Warns and raises what :func:`extract` and :func:`predict` do.
    """
    args, named = checked("annotate", {"inputs": inputs, "output": output, **options})
    from emobeam.telling import Telling, quiet_imports

    with quiet_imports():
        from emobeam.pipelines.requests import annotate_requests, cache_of
        from emobeam.pipelines.stages.annotate import run_annotate
        from emobeam.pipelines.stages.run_summary import annotate_summary

    ui = Telling(progress=progress)
    result = run_annotate(*annotate_requests(args, tuple(beam_args), named=named), ui)
    summary = annotate_summary(result, args["output"], cache_of(args))
    return Annotated(summary, _rows(result.predict.videos), tuple(ui.warned), args["output"])


def score(
    *,
    task: str,
    truth: Place,
    predictions: Place | Sequence[Place],
    edition: int | None = None,
    partition: str = "",
    post: Place = "",
    gate: Place = "",
    head: Place = "",
    thresholds: Sequence[float] = (),
    output: Place = "",
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """The challenge's figure, as ``emobeam score``; an output folder gets its ``metrics.json``.

    Args:
        truth: the organisers' annotations: root, folder or file.
        predictions: output folder, folder of tables, or submission; tables of several runs are averaged.

    The other options are those of the command, see ``emobeam score --help``.

    Warns:
        EmobeamWarning: labels of several partitions in one figure, videos that the heads were trained or tuned on.

    Raises:
        UsageError, EmobeamError: see ``emobeam.pipelines.challenge.score.run_score``.
    """
    args, _ = checked("score", given(locals()))
    from emobeam.pipelines.challenge.score import run_score
    from emobeam.schemas.tasks import task_named
    from emobeam.telling import Telling

    keys = ("partition", "post", "gate", "head", "thresholds", "output", "resamples", "seed")
    data = run_score(
        task_named(args["task"]),
        args["truth"],
        list(args["predictions"]),
        ui=Telling(),
        edition=args["edition"] or 0,
        **{key: args[key] for key in keys},
    )
    return Score(data)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
