"""The commands as functions. Every option is checked by the command's own types, so both refuse the same mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from emobeam.arguments import Place, checked, given
from emobeam.results import Annotated, Extracted, Predicted, Score
from emobeam.schemas import config

if TYPE_CHECKING:
    import pyarrow as pa

_EXTRACT = config.ExtractConfig()
_SAMPLING, _DECODER = _EXTRACT.sampling, _EXTRACT.decoder
_DETECTOR, _ALIGN = _EXTRACT.detector, _EXTRACT.align
_PREDICT = config.PredictConfig()


def extract(
    inputs: Place | Sequence[Place],
    *,
    output: Place,
    only: str | Sequence[str] = "",
    fps: float | Literal["native"] | None = None,
    segment_seconds: float = _SAMPLING.segment_seconds,
    crops: Literal["affwild2", "emi", "bah"] | None = None,
    videos: Place = "",
    crops_fps: float = _SAMPLING.crops_fps,
    backbone: str = "",
    backbone_weights: Place = "",
    input_size: int | None = None,
    maps: Sequence[str] = _EXTRACT.maps,
    store: Sequence[str] | None = None,
    views: int = _EXTRACT.views,
    align: Literal["square", "5pt"] = "square",
    margin: float = _ALIGN.margin,
    detector: Literal["exact", "track"] = "exact",
    min_face: int = _DETECTOR.min_face,
    min_score: float = _DETECTOR.keep,
    engine: Literal["auto", "torch", "openvino"] = "auto",
    decoder: Literal["auto", "pyav", "decord"] = "auto",
    decode_timeout: float = _DECODER.timeout,
    decode_memory: int = _DECODER.memory_mb,
    stream: int | None = None,
    runner: str = "direct",
    workers: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    verbose: bool = False,
    beam_args: Sequence[str] = (),
    progress: bool = False,
    **more: Any,
) -> Extracted:
    """Stage 1, as ``emobeam extract``: videos to a feature cache. What is done already is left as it is.

    Args:
        inputs: a video, a folder (walked), a glob, a table, a cache that stores crops, or several of a kind.
        output: folder of the cache.
        only: names of videos, or a file of names.
        progress: show a progress bar.
        more: options of the command that are not listed here (engines have their own), with ``_`` for ``-``.

    The other options are those of the command, see ``emobeam extract --help``. Where the input is a cache, an option
    left at its default is taken from there.

    Warns:
        EmobeamWarning: untrained weights, if any, and whatever else the command would warn of.

    Raises:
        UsageError: an option is wrong, or options contradict each other.
        EmobeamError: the run can't go on. Inputs that fail don't raise: see ``Extracted.ok``.
    """
    args, named = checked("extract", given(locals()))
    from emobeam.telling import Telling, quiet_imports

    with quiet_imports():
        from emobeam.pipelines.requests import extract_request
        from emobeam.pipelines.stages.extract import run_extract
        from emobeam.pipelines.stages.run_summary import extract_summary

    ui = Telling(progress=progress)
    request = extract_request(args, args["output"], tuple(beam_args), named=named)
    result = run_extract(request, ui)
    return Extracted(extract_summary(result, request.output), _rows(result.videos), tuple(ui.warned))


def predict(
    features: Place,
    *,
    output: Place,
    heads: Place | Sequence[Place] = (),
    tasks: str | Sequence[str] = (),
    only: str | Sequence[str] = "",
    faces: Literal["main", "all"] = "main",
    subjects: Place = "",
    max_gap: float = _PREDICT.max_gap,
    window_gap: float = _PREDICT.window_gap,
    stride: int = _PREDICT.stride,
    edition: int | None = None,
    template: Place = "",
    truth: Place = "",
    partition: str = "",
    runner: str = "direct",
    workers: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    verbose: bool = False,
    beam_args: Sequence[str] = (),
    progress: bool = False,
    **more: Any,
) -> Predicted:
    """Stage 2, as ``emobeam predict``: a feature cache to predictions of every native frame.

    Args:
        features: folder of the cache.
        output: folder for tables and submission.
        heads: folders of heads; several of one task are averaged, different tasks are written apart. Without any,
            ``au`` has the head that comes with emobeam; ``"untrained"`` is a random one, for tests.
        tasks: default: those of the heads, else ``au``.
        progress: show a progress bar.
        more: options of the command that are not listed here, with ``_`` for ``-``.

    The other options are those of the command, see ``emobeam predict --help``.

    Warns:
        EmobeamWarning: untrained heads, heads used on other features than they were made for, and so on.

    Raises:
        UsageError: an option is wrong, or options contradict each other.
        EmobeamError: cache or head can't be used, or the run can't go on.
    """
    args, _ = checked("predict", given(locals()))
    from emobeam.telling import Telling, quiet_imports

    with quiet_imports():
        from emobeam.pipelines.requests import predict_request
        from emobeam.pipelines.stages.predict import run_predict
        from emobeam.pipelines.stages.predict_request import check_request
        from emobeam.pipelines.stages.run_summary import predict_summary

    ui = Telling(progress=progress)
    request = predict_request(args, args["features"], tuple(beam_args))
    check_request(request)
    result = run_predict(request, ui)
    return Predicted(predict_summary(result, request.output), _rows(result.videos), tuple(ui.warned), request.output)


def annotate(
    inputs: Place | Sequence[Place],
    *,
    output: Place,
    features: Place = "",
    heads: Place | Sequence[Place] = (),
    tasks: str | Sequence[str] = (),
    only: str | Sequence[str] = "",
    workers: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    beam_args: Sequence[str] = (),
    progress: bool = False,
    **more: Any,
) -> Annotated:
    """Both stages, as ``emobeam annotate``: videos to predictions of every native frame, the main job.

    Args:
        inputs, only: see :func:`extract`.
        output: folder for tables and submission.
        features: folder of the cache. Default: ``features`` in ``output``.
        heads, tasks: see :func:`predict`.
        more: any other option of :func:`extract` and :func:`predict`.

    Warns and raises what :func:`extract` and :func:`predict` do.
    """
    args, named = checked("annotate", given(locals()))
    from emobeam.telling import Telling, quiet_imports

    with quiet_imports():
        from emobeam.pipelines.requests import extract_request, predict_request
        from emobeam.pipelines.stages.annotate import run_annotate
        from emobeam.pipelines.stages.run_summary import annotate_summary

    args["features"] = args["features"] or args["output"].rstrip("/") + "/features"
    ui = Telling(progress=progress)
    result = run_annotate(
        extract_request(args, args["features"], tuple(beam_args), named=named),
        predict_request(args, args["features"], tuple(beam_args), "annotate"),
        ui,
    )
    summary = annotate_summary(result, args["output"], args["features"])
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

    Raises:
        UsageError, EmobeamError: see ``emobeam.pipelines.challenge.score.run_score``.
    """
    args, _ = checked("score", given(locals()))
    from emobeam.pipelines.challenge.score import run_score
    from emobeam.schemas.tasks import task_named

    keys = ("partition", "post", "gate", "head", "thresholds", "output", "resamples", "seed")
    data = run_score(
        task_named(args["task"]),
        args["truth"],
        list(args["predictions"]),
        edition=args["edition"] or 0,
        **{key: args[key] for key in keys},
    )
    return Score(data)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
