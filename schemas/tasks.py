"""The challenge tasks: what they ask for, in which range, and how their files look.

Headers, output names and invalid markers are the organisers' own words (ABAW editions 3 to 11). A new task is
one more entry of :data:`TASKS`, a new edition one more number or form in its entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from schemas.records import UsageError

Scope = Literal["frame", "clip"]
OutputKind = Literal["value", "binary", "class"]
KeyKind = Literal["image", "clip", "number", "place"]
LabelKind = Literal["rows", "numbered", "table", "bah-frames", "bah-clips"]


@dataclass(frozen=True)
class KeyStyle:
    """How a row says which video and frame it belongs to.

    Attributes:
        kind: ``image``: ``<name>/<prefix><number><suffix>``; ``clip``: the bare name. The others have one file per
            video, named after it: ``number``: the row begins with the frame's number; ``place``: row i is frame i.
        prefix, suffix: of ``image``: what stands around the number in the image's name.
        digits: the number is padded with zeros to this length (longer numbers stay as they are).
        first: number of a video's first frame; frames themselves always count from 1.
        folder, extension: what names begin and end in where the organisers keep a folder or a file's extension.
    """

    kind: KeyKind = "image"
    prefix: str = ""
    suffix: str = ".jpg"
    digits: int = 5
    first: int = 1
    folder: str = ""
    extension: str = ""

    @property
    def per_video(self) -> bool:
        """One file per video, named after it."""
        return self.kind in ("number", "place")


@dataclass(frozen=True)
class SubmissionForm:
    """Shape of a submission: a text file, or a folder with one per video.

    Attributes:
        editions: ABAW editions that take this form.
        header: first line without line end, or None where the file starts with its first row.
        key: how rows are named.
        file: path below ``submission/<task>/``; ``{name}`` stands for the name of the video.
        probabilities: of a binary output: each row holds p0 and p1 before the class, and ``p0 + p1 == 1.0`` exactly.
        dense: a video's rows are all its frames, without gaps.
    """

    editions: tuple[int, ...]
    header: str | None
    key: KeyStyle = KeyStyle()
    file: str = "predictions.txt"
    probabilities: bool = False
    dense: bool = True


@dataclass(frozen=True)
class LabelLayout:
    """Where a task's annotations lie and how their files look.

    Attributes:
        kind: ``rows``: one file per video, row i is frame i; ``numbered``: one per video, rows begin with a frame's
            number; ``table``: one file per partition, rows begin with a key as in a submission; ``bah-frames``:
            BAH's annotation.yml; ``bah-clips``: BAH's split lists ``id,label,transcript``.
        header: first line, or None where there is none.
        partitions: ``train``, ``validation``, ``test``, each with the names of its folder or file.
        folders: names of the task's folder in an annotation root; blanks and underscores mean the same.
        subjects: what tells people apart: ``name`` (each name is one person in one video), ``folder`` (a name's first
            folder is a participant), or ``""`` where names don't tell.
    """

    kind: LabelKind
    header: str | None
    partitions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    folders: tuple[str, ...] = ()
    subjects: Literal["name", "folder", ""] = ""


@dataclass(frozen=True)
class OutputGroup:
    """Outputs that are labelled together: they have a value on a row all of them, or none of them.

    Attributes:
        name: of the group; for ``class`` groups also of its column in labels.
        outputs: names of the outputs, in the organisers' order and spelling.
        kind: ``value`` outputs are submitted as they are, ``binary`` ones as 0 or 1 by a threshold, those of a
            ``class`` group as the number (from 0) of the highest; of equal ones the first.
        activation: what the last layer of a head ends in.
        low, high: range of every output, both ends included.
        neutral: value of each output where nothing is known and the organisers demand a number.
        invalid: what labels hold where an annotator gave none, or None if that doesn't happen.
    """

    name: str
    outputs: tuple[str, ...]
    kind: OutputKind
    activation: str
    low: float
    high: float
    neutral: tuple[float, ...]
    invalid: float | None = None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns in labels and submissions: a class group has one, the number of its class."""
        return (self.name,) if self.kind == "class" else self.outputs

    @property
    def label_range(self) -> tuple[float, float]:
        """Lowest and highest valid value of a label column."""
        return (0.0, len(self.outputs) - 1.0) if self.kind == "class" else (self.low, self.high)

    @property
    def neutral_labels(self) -> tuple[float, ...]:
        """``neutral`` as it is submitted."""
        return (float(self.neutral.index(max(self.neutral))),) if self.kind == "class" else self.neutral


@dataclass(frozen=True)
class Task:
    """One challenge task.

    Attributes:
        name: what users write (``--task``).
        title: for people.
        groups: its outputs.
        scope: ``frame`` (one row per native frame) or ``clip`` (one row per video).
        forms: its submissions; the first is the usual one, and several may hold for one edition.
        labels: its annotations.
        compounds: pairs of outputs of task ``source``, one for each output of this task, whose mean it is.
        source: the task this one is derived from where nobody trained for it.
    """

    name: str
    title: str
    groups: tuple[OutputGroup, ...]
    scope: Scope
    forms: tuple[SubmissionForm, ...]
    labels: LabelLayout
    compounds: tuple[tuple[str, str], ...] = ()
    source: str = ""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all outputs: the value columns of a predictions table."""
        return tuple(output for group in self.groups for output in group.outputs)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of the value columns of labels and submissions."""
        return tuple(column for group in self.groups for column in group.label_columns)

    @property
    def neutral(self) -> tuple[float, ...]:
        """Neutral value of each output."""
        return tuple(value for group in self.groups for value in group.neutral)

    @property
    def neutral_labels(self) -> tuple[float, ...]:
        """Neutral value of each label column."""
        return tuple(value for group in self.groups for value in group.neutral_labels)

    @property
    def kind(self) -> OutputKind | Literal["mixed"]:
        """Kind of all outputs."""
        kinds = {group.kind for group in self.groups}
        return kinds.pop() if len(kinds) == 1 else "mixed"

    @property
    def activation(self) -> str:
        """What a head ends in; with several groups, each with its number of outputs: ``tanh:2,softmax:8``."""
        if len(self.groups) == 1:
            return self.groups[0].activation
        return ",".join(f"{group.activation}:{len(group.outputs)}" for group in self.groups)

    @property
    def editions(self) -> tuple[int, ...]:
        """ABAW editions that hold the task."""
        return tuple(sorted({edition for form in self.forms for edition in form.editions}))

    @property
    def form(self) -> SubmissionForm:
        """The usual form: its keys name the task's rows wherever no edition is given."""
        return self.forms[0]

    def forms_of(self, edition: int) -> tuple[SubmissionForm, ...]:
        """The forms of an edition; raises :class:`UsageError` listing tasks and editions where there is none."""
        forms = tuple(form for form in self.forms if edition in form.editions)
        if not forms:
            known = "; ".join(f"{task.name}: {', '.join(map(str, task.editions))}" for task in TASKS.values())
            raise UsageError(f"ABAW edition {edition} has no task {self.name}; there are {known}")
        return forms


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
_BAH_CLIP = KeyStyle(kind="clip", folder="Videos/", extension=".mp4")


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
        forms=(SubmissionForm((8,), None, KeyStyle(prefix="frame-", digits=1, first=0, extension=".mp4")),),
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
