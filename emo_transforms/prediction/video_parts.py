"""Stage 2: from the cache to predictions tables, one part per video and task.

:func:`predict_video` does it all for one video, in a child process (see ``predict_job``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_to_json
from emobeam.emo_transforms.networks.heads.fresh_configs import ready_config, untrained_config
from emobeam.emo_transforms.networks.heads.output_quality import Marks, marks_of
from emobeam.emo_transforms.networks.heads.prepared_heads import ReadyRun, load_prepared_head, seeded_prepared_head
from emobeam.emo_transforms.networks.heads.running import RunningHead
from emobeam.emo_transforms.networks.prepared.ensuring import Tell, on_stderr
from emobeam.emo_transforms.networks.shipped import SHIPPED, UNTRAINED, shipped, shipped_head
from emobeam.emo_transforms.networks.weights_digest import arrays_sha256
from emobeam.emo_transforms.prediction.predict_job import HeadSpec
from emobeam.emo_transforms.prediction.prediction_tables import part_uri, read_part_footer, write_part
from emobeam.emo_transforms.prediction.video_prediction import predict_table, stretches, view_video
from emobeam.schemas.config import digest_of, to_json
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError, UsageError, VideoFeatures
from emobeam.schemas.tasks import task_named

STAGE2_REVISION = 2
"""Raised by hand whenever a change of stage 2's code changes the bytes of a predictions table."""


def load_spec(spec: HeadSpec, dataset: Dataset, engine: str = "torch", tell: Tell = on_stderr) -> RunningHead:
    """Loads a head, or makes one of the cache's scores or of random weights.

    Args:
        engine: a concrete one, see ``emobeam.emo_transforms.networks.engines``.
        tell: gets a line where its network has to be prepared first.

    Raises:
        EmobeamError: it can't be read or made, or is not the one the launcher saw.
    """
    head = _on_torch(spec, dataset) if engine == "torch" else _on_openvino(spec, dataset, tell)
    if spec.sha256 and spec.sha256 != head.weights_sha256:
        what = f"the head of task {spec.task} that comes with emobeam" if spec.uri == SHIPPED else spec.uri
        raise EmobeamError(
            f"{what}: is not the head this run began with (sha256 {head.weights_sha256[:12]}, expected "
            f"{spec.sha256[:12]}); all machines must see the same files, and have the same version of emobeam"
        )
    return head


def _on_torch(spec: HeadSpec, dataset: Dataset) -> RunningHead:
    from emobeam.emo_transforms.networks.heads.files import load_head
    from emobeam.emo_transforms.networks.heads.fresh_heads import seeded_head

    if folder := _folder(spec):
        return load_head(folder)
    return seeded_head(_fresh(spec, dataset))


def _on_openvino(spec: HeadSpec, dataset: Dataset, tell: Tell) -> RunningHead:
    if folder := _folder(spec):
        return load_prepared_head(folder, tell)
    config = _fresh(spec, dataset)
    return ReadyRun(config, arrays_sha256({})) if config.architecture == "ready" else seeded_prepared_head(config, tell)


def _fresh(spec: HeadSpec, dataset: Dataset) -> HeadConfig:
    """The description of a head that has no folder."""
    make = untrained_config if spec.uri == UNTRAINED else ready_config
    return make(task_named(spec.task), dataset.offer)


def _folder(spec: HeadSpec) -> str:
    """Where a head lies, ``""`` where it is made."""
    return _shipped(spec.task) if spec.uri == SHIPPED else "" if spec.uri == UNTRAINED else spec.uri


def _shipped(task: str) -> str:
    found = shipped_head(task)
    if found is None:
        there = ", ".join(shipped().heads) or "none"
        raise UsageError(f"--head shipped: emobeam comes with no head of task {task}, only of {there}")
    return str(found.folder)


@dataclass(frozen=True)
class PredictTools:
    """What a worker loads once: heads by task."""

    heads: Mapping[str, Sequence[RunningHead]]
    dataset: Dataset

    def identity(self, task: str) -> list[list[str]]:
        """Name, weights and digest of the heads of a task."""
        return [[head.config.name, head.config.weights, head.weights_sha256] for head in self.heads[task]]

    def marks(self, task: str) -> Marks:
        """Outputs that none of the heads of a task knows, or whose values are not to be relied on."""
        return marks_of([head.config for head in self.heads[task]])


def load_tools(
    specs: Sequence[HeadSpec], dataset: Dataset, engine: str = "torch", tell: Tell = on_stderr
) -> PredictTools:
    """Loads all heads of a run; see :func:`load_spec`."""
    heads: dict[str, list[RunningHead]] = defaultdict(list)
    for spec in specs:
        head = load_spec(spec, dataset, engine, tell)
        heads[head.config.task].append(head)
    return PredictTools(dict(heads), dataset)


def missing_parts(
    item: VideoFeatures,
    tools: PredictTools,
    output: str,
    config: PredictConfig,
    part_id: Callable[[str], str] | None = None,
) -> dict[str, str]:
    """Tasks of which a video has no part made from the same shards by the same heads, with the id it will have.

    Args:
        part_id: gives the id (``predict_id``) of the part at a URI, ``""`` where there is none or it is damaged. By
            default its footer is read.
    """
    id_of = part_id or _part_id
    wanted = {task: _predict_id(item, tools, task, config) for task in tools.heads}
    return {task: id_ for task, id_ in wanted.items() if id_of(part_uri(output, task, item.video)) != id_}


def predict_video(
    item: VideoFeatures,
    tools: PredictTools,
    features: str,
    output: str,
    config: PredictConfig,
    alive: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Writes the missing parts of one video, each as a whole or not at all; returns their rows by task.

    Args:
        alive: called now and then, so that a watcher sees that work goes on.
    """
    todo = missing_parts(item, tools, output, config)
    if not todo:
        return {}
    appearance = tuple(tools.dataset.map_shapes) or (("embedding",) if tools.dataset.embedding else ())
    view = view_video(features, item, appearance)
    faces = stretches(view)
    rows = {}
    for task, identity in todo.items():
        table = predict_table(features, item, view, tools.heads[task], config, alive)
        footer = {
            "predict_id": identity,
            "video": item.video,
            "task": task,
            "heads": tools.identity(task),
            **tools.marks(task).to_json(),
            "made_by": made_by(tools, task, config),
            "settings": to_json(config),
            "subjects": list(item.subjects),
            "persons": [list(pair) for pair in item.persons],
            "shards": shards_id(item),
            "faces": faces,
            "rows": len(table),
        }
        write_part(part_uri(output, task, item.video), table, footer)
        rows[task] = len(table)
    return rows


_OF_VALUES = ("max_gap", "window_gap", "stride")
"""Settings that decide what a value is; the others say whose values are written, and where they are computed."""


def made_by(tools: PredictTools, task: str, config: PredictConfig) -> str:
    """Identity of all but the video that decides the values of a task: tables that share it can be compared."""
    settings = [getattr(config, name) for name in _OF_VALUES]
    cache = tools.dataset.config
    return digest_of([_heads(tools, task), settings, cache.features_id, cache.sampling.fps, STAGE2_REVISION])


def shards_id(item: VideoFeatures) -> str:
    """Identity of what the cache holds of a video: while it stays, numbers of persons mean the same people."""
    return digest_of(list(item.shards))


def _heads(tools: PredictTools, task: str) -> list[Any]:
    return [tools.identity(task), [config_to_json(head.config) for head in tools.heads[task]]]


def _predict_id(item: VideoFeatures, tools: PredictTools, task: str, config: PredictConfig) -> str:
    settings = to_json(config)
    if config.engine == "torch":
        del settings["engine"]  # tables of version 0.1 don't tell it, and there was no other
    return digest_of([settings, *_heads(tools, task), to_json(replace(item, sampled=0)), STAGE2_REVISION])


def _part_id(uri: str) -> str:
    try:
        return str(read_part_footer(uri).get("predict_id", ""))
    except (FileNotFoundError, EmobeamError):
        return ""


def do_video(
    item: VideoFeatures, tools: PredictTools, features: str, output: str, config: PredictConfig, report: Report
) -> dict[str, int] | None:
    """Predicts one video and tells of it; rows by task, None where the video can't be predicted.

    Raises:
        OutputError: nothing can be written at all.
    """
    report("start", {"key": item.video})

    def alive() -> None:
        report("frames", {"key": item.video, "frames": 0})

    try:
        rows = predict_video(item, tools, features, output, config, alive)
    except storage.OutputError:
        raise
    except (EmobeamError, OSError) as error:  # an outage of a store is the failure of a video, not of its worker
        if isinstance(error, OSError) and storage.is_full(error):
            raise storage.OutputError(f"{output}: can't be written ({error}); free some space") from error
        report("failed", {"key": item.video, "message": str(error)[:2000]})
        return None
    report("frames", {"key": item.video, "frames": item.sampled})
    report("done", {"key": item.video, "result": rows})
    return rows
