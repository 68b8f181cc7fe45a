"""Command line options that several commands share. Imports nothing heavy: ``--help`` stays fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from emobeam.schemas.tasks import TASKS

F = TypeVar("F", bound=Callable[..., Any])


class _Fps(click.ParamType):  # type: ignore[type-arg]  # generic only in recent versions of click
    name = "number|native"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N|native"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == "native" or value == 0:
            return 0.0
        try:
            fps = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'native'", param, ctx)
        if not 0 < fps <= 1000:
            self.fail(f"{value} is not a rate in frames per second", param, ctx)
        return fps


class _Names(click.ParamType):  # type: ignore[type-arg]  # generic only in recent versions of click
    """Comma-separated names out of a fixed set, in the order of the set."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.name = ",".join(known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in names if name not in self.known]
        if unknown or not names:
            self.fail(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(self.known)}", param, ctx)
        return tuple(name for name in self.known if name in names)


FRACTION = click.FloatRange(0, 1)


def task_option(*, required: bool = False, multiple: bool = False, text: str = "Challenge task.") -> Callable[[F], F]:
    """The option ``--task``, with the names of all tasks."""
    name = ("--task", "tasks") if multiple else ("--task",)
    return click.option(*name, type=click.Choice(sorted(TASKS)), required=required, multiple=multiple, help=text)


def _apply(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


inputs = click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")

extraction = _apply(
    [
        click.option(
            "--only",
            default="",
            show_default=False,
            metavar="NAMES|TEMPLATE",
            help="Only these videos: names, or a file of them.",
        ),
        click.option("--fps", type=_Fps(), default=None, help="Frames looked at per second.  [default: 6; crops: all]"),
        click.option(
            "--segment-seconds",
            type=click.FloatRange(min=1),
            default=60.0,
            metavar="SECONDS",
            help="Length of a shard.",
        ),
        click.option(
            "--crops",
            type=click.Choice(["affwild2", "emi", "bah", "people"]),
            help="INPUT holds folders of cropped faces in the organisers' layout; people: of emobeam render.",
        ),
        click.option(
            "--videos",
            default="",
            show_default=False,
            metavar="DIR",
            help="With --crops: raw videos, for presentation times.",
        ),
        click.option(
            "--crops-fps",
            type=click.FloatRange(min=0),
            default=0.0,
            metavar="FPS",
            help="With --crops: native frames per second.",
        ),
        click.option(
            "--backbone",
            default="",
            show_default=False,
            metavar="NAME",
            help="timm's MobileNetV4 (maps), any other timm classifier, mobilefacenet or ddamfn (embedding, scores).  "
            "[default: that of the weights, else mobilenetv4_conv_small]",
        ),
        click.option(
            "--backbone-weights",
            default="",
            show_default=False,
            metavar="FILE|URI|NAME|timm[:TAG]|untrained",
            help="Checkpoint, safetensors or ONNX file; a name of emobeam models; 'timm' lets timm fetch its own; "
            "'untrained' is random.  [default: those that come with emobeam; of other backbones: untrained]",
        ),
        click.option(
            "--input-size",
            type=click.IntRange(min=32, max=1024),
            default=None,
            metavar="PX",
            help="Edge of the crops a backbone sees.  [default: what it was made for; 224 for maps]",
        ),
        click.option("--maps", type=_Names("s8", "s16", "s32"), default="s8,s16,s32", help="Feature maps to store."),
        click.option(
            "--store",
            type=_Names("maps", "crops", "embedding", "scores"),
            default=None,
            help="What a feature row holds; crops alone runs no backbone.  [default: maps, else embedding,scores]",
        ),
        click.option(
            "--views", type=click.IntRange(0, 100), default=0, help="Augmented views of each face beside the plain one."
        ),
        click.option("--align", type=click.Choice(["square", "5pt"]), default="square", help="From box to crop."),
        click.option(
            "--margin",
            type=click.FloatRange(0, 2),
            default=0.2,
            metavar="RATIO",
            help="Added to a square crop's edge, as a share of it.",
        ),
        click.option(
            "--detector",
            type=click.Choice(["exact", "track"]),
            default="exact",
            help="MTCNN on every frame for itself, or with short cuts through time (docs/speed.md).",
        ),
        click.option("--min-face", type=click.IntRange(min=12), default=20, metavar="PX", help="Smallest face."),
        click.option("--min-score", type=click.FloatRange(0, 1), default=0.9, help="Smallest detection score."),
        click.option(
            "--engine",
            type=click.Choice(["auto", "torch", "openvino"]),
            default="auto",
            help="What runs the networks; auto is openvino where it is installed, on the CPU.",
        ),
        click.option(
            "--decoder",
            type=click.Choice(["auto", "pyav", "decord"]),
            default="auto",
            help="auto is pyav (docs/accuracy.md).",
        ),
        click.option(
            "--stream",
            type=click.IntRange(min=0),
            default=None,
            metavar="N",
            help="Which of several video streams, from 0.  [default: the default one, else the largest]",
        ),
        click.option(
            "--decode-timeout",
            type=click.FloatRange(min=1),
            default=30.0,
            metavar="SECONDS",
            help="A decoder without progress for so long is ended.",
        ),
        click.option(
            "--decode-memory", type=click.IntRange(min=64), default=1024, metavar="MB", help="What a decoder may use."
        ),
    ]
)

prediction = _apply(
    [
        click.option(
            "--head",
            "heads",
            multiple=True,
            metavar="HEAD|untrained",
            help="Folder of a head; several may be given; 'untrained' is random, for tests.  [default: au: the head "
            "that comes with emobeam]",
        ),
        task_option(multiple=True, text="Repeatable.  [default: tasks of the heads, else au]"),
        click.option("--faces", type=click.Choice(["main", "all"]), default="main", help="Whose values are written."),
        click.option(
            "--subjects",
            default="",
            show_default=False,
            metavar="FILE",
            help="CSV video,subject,person: who a subject is.",
        ),
        click.option(
            "--max-gap",
            type=click.FloatRange(min=0),
            default=0.5,
            metavar="SECONDS",
            help="How far a value is carried from a face.",
        ),
        click.option(
            "--window-gap",
            type=click.FloatRange(min=0),
            default=0.5,
            metavar="SECONDS",
            help="What a window may step over.",
        ),
        click.option(
            "--stride", type=click.IntRange(min=0), default=0, help="Frames between windows; 0: side by side."
        ),
        click.option("--edition", type=click.IntRange(3, 11), help="ABAW edition; writes the submission."),
        click.option(
            "--template", default="", show_default=False, metavar="FILE", help="Organisers' rows for the submission."
        ),
        click.option(
            "--truth",
            default="",
            show_default=False,
            metavar="LABELS",
            help="Organisers' annotations; writes metrics.json.",
        ),
        click.option(
            "--partition",
            default="",
            show_default=False,
            metavar="NAME",
            help="With --truth: train, validation or test.",
        ),
    ]
)

detach = click.option("--detach", is_flag=True, help="Dataflow: send the job and don't wait for its end.")

running = _apply(
    [
        click.option(
            "--runner",
            type=click.Choice(["direct", "flink", "spark", "dataflow"]),
            default="direct",
            help="Engine; direct is this machine.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=0),
            default=0,
            help="direct: processes, 0 is one per core; Flink: parallelism, 0 is all slots; Spark: cores, Dataflow: "
            "machines at most, 0 leaves it to the engine.",
        ),
        click.option(
            "--flink-master", default="", show_default=False, metavar="HOST:PORT", help="REST of the cluster."
        ),
        click.option(
            "--flink-version",
            default="1.20",
            metavar="VERSION",
            help="Which job server is fetched where none is named.",
        ),
        click.option(
            "--spark-master", default="", show_default=False, metavar="spark://HOST:PORT", help="The cluster."
        ),
        click.option(
            "--job-server-jar",
            default="",
            show_default=False,
            metavar="JAR",
            help="Beam's job server for Flink or Spark.  [default: fetched from Maven Central]",
        ),
        click.option(
            "--job-endpoint",
            default="",
            show_default=False,
            metavar="HOST:PORT",
            help="A job server that runs already; then neither jar nor Java is needed here.",
        ),
        click.option(
            "--worker-environment",
            default="",
            show_default=False,
            metavar="HOW",
            help="Flink, Spark: process[:COMMAND], external:HOST:PORT, docker:IMAGE or loopback.",
        ),
        click.option(
            "--patience",
            type=click.FloatRange(min=0),
            default=3600.0,
            metavar="SECONDS",
            help="Engines: without a sign of any worker for so long a run gives up; 0: never.",
        ),
        click.option("--shared-files", is_flag=True, help="Local paths mean the same on all workers."),
        click.option("--project", default="", show_default=False, metavar="ID", help="Dataflow: Google Cloud project."),
        click.option(
            "--region", default="", show_default=False, metavar="REGION", help="Dataflow: such as europe-west4."
        ),
        click.option(
            "--temp-location", default="", show_default=False, metavar="gs://...", help="Dataflow: its own files."
        ),
        click.option("--image", default="", show_default=False, metavar="IMAGE", help="Dataflow: the worker image."),
        click.option("--machine-type", default="n2-standard-8", metavar="TYPE", help="Dataflow: of the workers."),
        click.option(
            "--accelerator", default="", show_default=False, metavar="TYPE", help="Dataflow: GPU of --machine-type."
        ),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="For the networks."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."),
        click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only."),
        click.option("-v", "--verbose", is_flag=True, help="Let workers and libraries write to standard error."),
    ]
)
