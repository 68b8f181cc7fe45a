"""The challenge tasks: what they ask for, in which range, and how their files look.

Headers, output names and invalid markers are the organisers' own words (ABAW editions 3 to 11). A new task is
one more entry of :data:`TASKS`, a new edition one more number or form in its entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from emobeam.schemas.records import UsageError
from emobeam.schemas.task_form import KeyStyle, LabelLayout, OutputGroup, SubmissionForm, Task

__all__ = ["TASKS", "KeyStyle", "LabelLayout", "OutputGroup", "SubmissionForm", "Task", "task_named"]

_AUS = tuple(f"AU{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
_EXPRESSIONS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
_EMOTIONS = ("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")
_COMPOUNDS = (
    "Fearfully_Surprised",
    "Happily_Surprised",
    "Sadly_Surprised",
    "Disgustedly_Surprised",
    "Angrily_Surprised",
    "Sadly_Fearful",
    "Sadly_Angry",
)
_SYNTHETIC = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")


def _one_hot(classes: tuple[str, ...], chosen: str) -> tuple[float, ...]:
    return tuple(float(name == chosen) for name in classes)


_VA_GROUP = OutputGroup("va", ("valence", "arousal"), "value", "tanh", -1.0, 1.0, (0.0, 0.0), invalid=-5.0)
_EXPR_GROUP = OutputGroup(
    "expression", _EXPRESSIONS, "class", "softmax", 0.0, 1.0, _one_hot(_EXPRESSIONS, "Neutral"), invalid=-1.0
)
_AU_GROUP = OutputGroup("au", _AUS, "binary", "sigmoid", 0.0, 1.0, (0.0,) * len(_AUS), invalid=-1.0)
_AH_GROUP = OutputGroup("ah", ("AH",), "binary", "sigmoid", 0.0, 1.0, (0.0,))

_IMAGE = KeyStyle()
_PER_VIDEO = "predictions/{name}.txt"
_FOLDERS = (("train", ("Train_Set",)), ("validation", ("Validation_Set",)))
_SPLITS = (("train", ("train.txt",)), ("validation", ("val.txt",)), ("test", ("test.txt",)))
_BAH_CLIP = KeyStyle(kind="clip", folder="Videos/", extension=".mp4", depth=2)


def _aff_wild2(
    name: str, title: str, group: OutputGroup, folders: tuple[str, ...], editions: tuple[int, ...], header: str
) -> Task:
    """VA, EXPR and AU: annotations of one file per video, which was the form of submissions too in edition 3."""
    return Task(
        name=name,
        title=title,
        groups=(group,),
        scope="frame",
        forms=(
            SubmissionForm(editions=editions, header=f"image_location,{header}", key=_IMAGE),
            SubmissionForm(editions=(3,), header=header, key=KeyStyle(kind="place"), file=_PER_VIDEO),
        ),
        labels=LabelLayout("rows", header=header, partitions=_FOLDERS, folders=folders, subjects="name"),
    )


_ALL = (
    _aff_wild2(
        "va",
        "valence-arousal estimation",
        _VA_GROUP,
        ("VA_Estimation_Challenge",),
        (5, 6, 8, 9, 10),
        "valence,arousal",
    ),
    _aff_wild2(
        "expr",
        "expression recognition",
        _EXPR_GROUP,
        ("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge"),
        (5, 6, 8, 10),
        "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
    ),
    _aff_wild2(
        "au",
        "action unit detection",
        _AU_GROUP,
        ("AU_Detection_Challenge",),
        (5, 6, 8, 10),
        "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
    ),
    Task(
        name="mtl",
        title="multi-task learning: valence-arousal, expression and action units",
        groups=(_VA_GROUP, _EXPR_GROUP, _AU_GROUP),
        scope="frame",
        forms=(SubmissionForm((3, 4, 7, 11), "image,valence,arousal,expression,aus", _IMAGE, dense=False),),
        labels=LabelLayout(
            "table",
            header="image,valence,arousal,expression,aus",
            partitions=(
                ("train", ("training_set_annotations.txt", "train_set.txt")),
                ("validation", ("validation_set_annotations.txt", "validation_set.txt")),
            ),
            folders=("MTL_Challenge",),
            subjects="name",
        ),
    ),
    Task(
        name="ce",
        title="compound expression recognition",
        groups=(
            # A filled row adds a false positive to one class, which costs macro F1 least in the commonest one.
            # The challenge gives no labels to count; in RAF-DB's compound set that is Happily_Surprised.
            OutputGroup(
                "compound", _COMPOUNDS, "class", "softmax", 0.0, 1.0, _one_hot(_COMPOUNDS, "Happily_Surprised"), -1.0
            ),
        ),
        scope="frame",
        forms=(SubmissionForm((6, 7, 8, 9), "image_location," + ",".join(_COMPOUNDS), _IMAGE),),
        # No labels are given out; what people label themselves is read in the form of a submission.
        labels=LabelLayout("table", header="image_location," + ",".join(_COMPOUNDS), subjects="name"),
        compounds=(
            ("Fear", "Surprise"),
            ("Happiness", "Surprise"),
            ("Sadness", "Surprise"),
            ("Disgust", "Surprise"),
            ("Anger", "Surprise"),
            ("Sadness", "Fear"),
            ("Sadness", "Anger"),
        ),
        source="expr",
    ),
    Task(
        name="emi",
        title="emotional mimicry intensity estimation",
        groups=(
            # The measure is Pearson's rho over all clips: a filled row does least harm at the mean of the other
            # rows. That mean isn't known beforehand, and the middle of the range is never far from it; 0 would
            # claim that a clip nobody could see shows no mimicry at all.
            OutputGroup("emi", _EMOTIONS, "value", "sigmoid", 0.0, 1.0, (0.5,) * len(_EMOTIONS)),
        ),
        scope="clip",
        forms=(
            SubmissionForm(
                editions=(6, 8, 10),
                header="Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy",
                key=KeyStyle(kind="clip"),
                file="predictions.csv",
            ),
        ),
        labels=LabelLayout(
            "table",
            header="Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy",
            partitions=(("train", ("train_split.csv",)), ("validation", ("valid_split.csv",))),
        ),
    ),
    Task(
        name="ah",
        title="ambivalence/hesitancy recognition, frame level",
        groups=(_AH_GROUP,),
        scope="frame",
        forms=(SubmissionForm((8,), None, KeyStyle(prefix="frame-", digits=1, first=0, extension=".mp4", depth=2)),),
        labels=LabelLayout("bah-frames", None, _SPLITS, folders=("ABAW-8th-BAH-train-data",), subjects="folder"),
    ),
    Task(
        name="ah-video",
        title="ambivalence/hesitancy recognition, video level",
        groups=(_AH_GROUP,),
        scope="clip",
        forms=(
            SubmissionForm((10, 11), None, _BAH_CLIP, "no_probabilities/trial-1.txt"),
            SubmissionForm((10, 11), None, _BAH_CLIP, "with_probabilities/trial-1.txt", probabilities=True),
        ),
        labels=LabelLayout("bah-clips", header=None, partitions=_SPLITS, subjects="folder"),
    ),
    Task(
        name="vd",
        title="violence detection",
        groups=(OutputGroup("vd", ("Violence",), "binary", "sigmoid", 0.0, 1.0, (0.0,), invalid=-1.0),),
        scope="frame",
        forms=(
            SubmissionForm(
                editions=(9, 10),
                header="Frame_Number,Predicted_Label",
                key=KeyStyle(kind="number", digits=1),
                file="predictions/{name}.csv",
            ),
        ),
        labels=LabelLayout(
            "numbered",
            header="Frame_Number,Label",
            partitions=(("train", ("Training",)), ("validation", ("Validation",))),
            subjects="name",
        ),
    ),
    Task(
        name="lsd",
        title="expression recognition after learning from synthetic data",
        groups=(
            # None of the six is neutral; of equal ones the first is submitted.
            OutputGroup("expression", _SYNTHETIC, "class", "softmax", 0.0, 1.0, (1 / 6,) * 6, -1.0),
        ),
        scope="clip",
        forms=(SubmissionForm((4,), "image,expression", KeyStyle(kind="clip", extension=".jpg")),),
        # Labels are folders named after classes; a list in the form of a submission is what is read.
        labels=LabelLayout("table", header="image,expression"),
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})
"""All known tasks by name."""


def task_named(name: str) -> Task:
    """The task of that name; raises :class:`UsageError` listing the known names where there is none."""
    try:
        return TASKS[name]
    except KeyError:
        raise UsageError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}") from None
