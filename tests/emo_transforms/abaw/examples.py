"""Invented templates in the organisers' form: real layouts, headers and quirks, made-up names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.schemas.tasks import Task

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "abaw-examples"
"""Example files handed out beside the repository; tests that use them skip where they are absent."""

VA_HEADER = "image_location,valence,arousal"
AU_HEADER = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
EMI_HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"

FRAMES: Mapping[str, int] = {"14-30-1920x1080": 4, "video45_1": 2, "video49_left": 3}
"""Frames of the invented Aff-Wild2 videos: a plain name, one with a part number, one of two people."""

BAH_FRAMES: Mapping[str, int] = {
    "90003/Visite_1/90003_Question_1_2024-11-14_09-00-00_Video.mp4": 3,
    "90004/Visite 1/90004_Question_3_2024-08-22 14-00-00_Video.mp4": 2,
}
"""Frames of the invented BAH videos; the second id holds blanks, as older ones do."""

CLIPS = ("12660", "00012", "17245")
"""Invented EMI clips."""


def image_keys(frames: Mapping[str, int] = FRAMES) -> list[str]:
    """``<name>/00001.jpg`` and on, video by video."""
    return [f"{name}/{number:05d}.jpg" for name, count in frames.items() for number in range(1, count + 1)]


def bah_keys(frames: Mapping[str, int] = BAH_FRAMES) -> list[str]:
    """``<name>/frame-0.jpg`` and on, video by video."""
    return [f"{name}/frame-{number}.jpg" for name, count in frames.items() for number in range(count)]


def write_lines(
    path: Path,
    rows: Sequence[str],
    *,
    header: str | None = None,
    tail: str = "",
    newline: str = "\n",
    bom: bool = False,
    last_newline: bool = True,
) -> str:
    """Writes a template: ``tail`` follows each row (``,`` or ``,0.5,-0.5``). Returns its path as text."""
    lines = ([] if header is None else [header]) + [row + tail for row in rows]
    text = newline.join(lines) + (newline if last_newline else "")
    path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    return str(path)


def value_texts(task: Task, values: np.ndarray) -> list[str]:
    """Label columns as the organisers print them: floats as short as they go, classes, bits and markers as integers."""
    whole = [group.kind != "value" for group in task.groups for _ in group.label_columns]
    markers = [group.invalid for group in task.groups for _ in group.label_columns]
    return [
        ",".join(
            str(int(value)) if integer or value == marker else np.format_float_positional(np.float32(value), trim="0")
            for value, integer, marker in zip(row, whole, markers, strict=True)
        )
        for row in values
    ]


def label_files(task: Task, labels: Sequence[VideoLabels]) -> dict[str, str]:
    """Texts of annotation files by name: one per video, or one for all (then the name is ``""``)."""
    header = f"{task.labels.header}\n" if task.labels.header else ""
    match task.labels.kind:
        case "rows":
            return {
                video.name: header + "".join(f"{row}\n" for row in value_texts(task, video.values)) for video in labels
            }
        case "numbered":
            return {
                video.name: header
                + "".join(f"{n},{row}\n" for n, row in zip(video.frames, value_texts(task, video.values), strict=True))
                for video in labels
            }
        case "bah-frames":
            return {"": "".join(map(bah_text, labels))}
        case "bah-clips":
            return {"": "".join(f"{video.name},{int(video.values[0, 0])},well, yes\n" for video in labels)}
    keys = [
        video.name if task.scope == "clip" else f"{video.name}/{frame:05d}.jpg"
        for video in labels
        for frame in video.frames.tolist()
    ]
    rows = [row for video in labels for row in value_texts(task, video.values)]
    return {"": header + "".join(f"{key},{row}\n" for key, row in zip(keys, rows, strict=True))}


def bah_text(video: VideoLabels) -> str:
    """One video in BAH's annotation.yml."""
    pairs = zip(video.frames.tolist(), value_texts_of_bits(video.values), strict=True)
    frames = "".join(f"  - - {video.name}/frame-{frame - 1}.jpg\n    - {bit}\n" for frame, bit in pairs)
    return f"{video.name}:\n  frame_annotation:\n{frames}  global_ah: {int(video.values.max())}\n"


def value_texts_of_bits(values: np.ndarray) -> list[str]:
    """A column of zeros and ones."""
    return [str(int(value)) for value in values[:, 0]]


def outputs_of(task: Task, labels: np.ndarray) -> np.ndarray:
    """Scores, float32[n, K], that are decided to be these label columns: classes become one-hot."""
    parts, start = [], 0
    for group in task.groups:
        stop = start + len(group.label_columns)
        block = labels[:, start:stop]
        parts.append(np.eye(len(group.outputs))[block[:, 0].astype(int)] if group.kind == "class" else block)
        start = stop
    return np.concatenate(parts, axis=1).astype(np.float32)
