"""What a challenge task is made of: outputs, keys, submission files, annotations. The entries are in ``tasks``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emobeam.schemas.records import UsageError

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
        depth: how many folders a name has, ``folder`` left out.
    """

    kind: KeyKind = "image"
    prefix: str = ""
    suffix: str = ".jpg"
    digits: int = 5
    first: int = 1
    folder: str = ""
    extension: str = ""
    depth: int = 0

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
        """The forms of an edition; raises :class:`UsageError` listing the task's editions where there is none."""
        forms = tuple(form for form in self.forms if edition in form.editions)
        if not forms:
            known = ", ".join(map(str, self.editions))
            raise UsageError(f"ABAW edition {edition} has no task {self.name}; it is in editions {known}")
        return forms
