"""emobeam from Python: the functions that the commands call, and what they leave behind as tables.

    import emobeam as eb

    eb.extract("videos/", output="features/")
    eb.predict("features/", heads=["heads/au"], output="out/")
    au = eb.load_predictions("out/", task="au", rate="sampled")

Options are called as on the command line, with ``_`` for ``-``, and have the same defaults and checks. Importing this
package loads nothing heavy; functions load what they need when they are first called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emobeam.jobs import annotate, extract, predict, score
    from emobeam.loading import load_features, load_predictions
    from emobeam.outputs import agree, events, export, report, summarise
    from emobeam.results import Annotated, Exported, Extracted, Findings, Predicted, Score
    from emobeam.rows import FeatureRows
    from emobeam.schemas.records import EmobeamError, InputError, UsageError
    from emobeam.telling import EmobeamWarning

__all__ = [
    "Annotated",
    "EmobeamError",
    "EmobeamWarning",
    "Exported",
    "Extracted",
    "FeatureRows",
    "Findings",
    "InputError",
    "Predicted",
    "Score",
    "UsageError",
    "agree",
    "annotate",
    "events",
    "export",
    "extract",
    "load_features",
    "load_predictions",
    "predict",
    "report",
    "score",
    "summarise",
]

_PLACES = {
    **dict.fromkeys(("annotate", "extract", "predict", "score"), "emobeam.jobs"),
    **dict.fromkeys(("agree", "events", "export", "report", "summarise"), "emobeam.outputs"),
    **dict.fromkeys(("load_features", "load_predictions"), "emobeam.loading"),
    **dict.fromkeys(("Annotated", "Exported", "Extracted", "Findings", "Predicted", "Score"), "emobeam.results"),
    **dict.fromkeys(("EmobeamError", "InputError", "UsageError"), "emobeam.schemas.records"),
    "FeatureRows": "emobeam.rows",
    "EmobeamWarning": "emobeam.telling",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from emobeam.pipelines.run_origin import own_version

        return own_version()
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
