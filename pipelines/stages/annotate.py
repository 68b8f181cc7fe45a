"""The job ``annotate``: both stages one after the other, the main job."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emobeam.emo_transforms.prediction.subjects import gather_subjects, read_overrides
from emobeam.pipelines.console import Ui
from emobeam.pipelines.stages.extract import ExtractRequest, ExtractResult, run_extract
from emobeam.pipelines.stages.output_folder import check_earlier, list_earlier
from emobeam.pipelines.stages.predict import run_predict
from emobeam.pipelines.stages.predict_request import Caller, PredictRequest, check_request, head_places, head_specs
from emobeam.pipelines.stages.run_record import PredictResult
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.engines.checks import check_engine

ANNOTATE = Caller("annotate", checks_places=True)


@dataclass(frozen=True)
class AnnotateResult:
    """What both stages left behind."""

    extract: ExtractResult
    predict: PredictResult


def run_annotate(extract: ExtractRequest, predict: PredictRequest, ui: Ui) -> AnnotateResult:
    """Runs stage 1 and stage 2; mistakes in what stage 2 is asked for are found before stage 1 begins.

    Raises:
        EmobeamError, UsageError: see ``run_extract`` and ``run_predict``.
    """
    check_request(predict)
    overrides = read_overrides(predict.subjects) if predict.subjects else {}
    gather_subjects([video.id for video in extract.videos], inputs=extract.videos, overrides=overrides)
    _, tools = head_specs(predict, extract.dataset, ui)
    check_earlier(predict, tools, {video.id for video in extract.videos}, list_earlier(predict))
    if extract.engine is not None:
        places = head_places(predict.heads)
        check_engine(extract.engine, inputs=places, outputs=[predict.output], warn=lambda text: None)
    predict = replace(predict, videos=extract.videos, caller=ANNOTATE)
    with LocalPool(extract.local) as pool:
        return AnnotateResult(run_extract(extract, ui, pool), run_predict(predict, ui, pool))
