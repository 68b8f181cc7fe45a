"""Faces and speed against ``facenet_pytorch.MTCNN.detect``: ``python -m tests.benchmarks.detection``.

Both sides see the same frames (6 per second) in one process on one core with one torch thread, the same smallest face
and thresholds, a batch of frames each in turns; time is CPU time. Agreement is counted on all real clips, where they
are at hand, and on generated ones: *found* are faces of the reference with a score of at least 0.9 that ours has at 0.9
with an overlap of 0.5; *extra* are such faces of ours without a partner, in per cent of the number of the reference's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.extraction.segments import Tools
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from tests.benchmarks.agreement import Agreement, pairs_of, total
from tests.benchmarks.detectors import Ours, Plain, Side, contest
from tests.benchmarks.figures import Figure, Goal, Section, ratio_figure, share_figure
from tests.benchmarks.material import (
    generated_clips,
    one_face,
    pictures_and_times,
    real_clips,
    sampled_frames,
    several_faces,
    wide_portrait,
)
from tests.benchmarks.measure import MODE_TEXT, MODES, as_worker, detector_modes, parser, run, stage1_settings

AGAINST = "facenet_pytorch.MTCNN.detect"

_SPEED = {"exact": Goal(at_least=6), "track": Goal(at_least=25)}
_FOUND = {"exact": Goal(at_least=99), "track": Goal(at_least=98)}
_OVERLAP = {"exact": Goal(at_least=0.9), "track": None}
_EXTRA = Goal(at_most=2)


@dataclass
class Tally:
    """CPU seconds by size and side, one value of each round; the same by clip; agreement by mode, kind and clip."""

    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    clips: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    agreement: dict[str, dict[str, dict[str, Agreement]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )

    def count(self, kind: str, clip: str, theirs: Any, faces: Mapping[str, Any]) -> None:
        for mode in faces.keys() & set(MODES):
            self.agreement[mode][kind][clip] = total(pairs_of(theirs, faces[mode]))


def clips_for_speed(folder: Path, quick: bool) -> dict[str, list[Path]]:
    """By size; the first ones have one face, the last of 1080p several."""
    if quick:
        return {"360p": [one_face(folder, 360, seconds=1)], "1080p": [one_face(folder, 1080, seconds=0.3)]}
    return {
        "360p": [one_face(folder, 360, seconds=20)],
        "1080p": [one_face(folder, 1080, seconds=6), several_faces(folder, seconds=4)],
    }


def speed(clips: Mapping[str, Sequence[Path]], sides: Mapping[str, Side], decoder: DecoderProcess, tally: Tally,
          repeats: int, settings: Any) -> None:  # fmt: skip
    """Rounds over all clips of a size."""
    for size, paths in clips.items():
        frames = {path: sampled_frames(path, settings, decoder) for path in paths}
        rounds = [
            {path: contest(*pictures_and_times(frames[path]), sides, turn).seconds for path in paths}
            for turn in range(repeats)
        ]
        tally.seconds[size] = {name: [sum(one[path][name] for path in paths) for one in rounds] for name in sides}
        tally.clips[size] = {
            path.stem: {name: [one[path][name] / len(frames[path]) for one in rounds] for name in sides}
            for path in paths
        }
        tally.frames[size] = sum(map(len, frames.values()))


def agreement(clips: Mapping[str, Sequence[Path]], sides: Mapping[str, Side], decoder: DecoderProcess, tally: Tally,
              limit: int, settings: Any) -> None:  # fmt: skip
    for kind, paths in clips.items():
        for path in paths:
            frames = sampled_frames(path, settings, decoder, limit=limit)
            faces = contest(*pictures_and_times(frames), sides).faces
            tally.count(kind, path.name, faces["plain"], faces)


def figures(tally: Tally) -> list[Figure]:
    """Rows of the table."""
    found = []
    for mode in (mode for mode in MODES if mode in tally.agreement):
        what = f"detection, {MODE_TEXT[mode]}"
        for size, seconds in tally.seconds.items():
            per_frame = {name: [value / tally.frames[size] for value in values] for name, values in seconds.items()}
            note = f"{_saved(per_frame, mode)} per frame"
            if len(tally.clips[size]) > 1:
                note += "; " + ", ".join(f"{clip} {_saved(own, mode)}" for clip, own in tally.clips[size].items())
            key = f"detection.{mode}.speed.{size}"
            found.append(
                ratio_figure(
                    key, f"{what}, {size}", AGAINST, seconds["plain"], seconds[mode], goal=_SPEED[mode], note=note
                )
            )
        for kind, clips in tally.agreement[mode].items():
            found += agreement_figures(mode, kind, clips)
    return found


def _saved(seconds: Mapping[str, Sequence[float]], mode: str) -> str:
    plain, ours = (1000 * statistics.median(seconds[name]) for name in ("plain", mode))
    return f"{plain:.0f} to {ours:.1f} ms"


def agreement_figures(mode: str, kind: str, clips: Mapping[str, Agreement]) -> list[Figure]:
    everything = sum(clips.values(), Agreement())
    what, key = f"detection, {MODE_TEXT[mode]}, {kind} clips", f"detection.{mode}.{kind}"
    worst = min((c.found / c.theirs, name) for name, c in clips.items() if c.theirs) if everything.theirs else (1.0, "")
    count = f"{everything.theirs} faces in {everything.frames} frames of {len(clips)} clips"
    return [
        share_figure(
            f"{key}.found", f"{what}: faces found", AGAINST, everything.found, everything.theirs, goal=_FOUND[mode],
            note=f"{count}; worst: {100 * worst[0]:.1f} % of {worst[1]}",
        ),
        Figure(
            f"{key}.overlap", f"{what}: mean overlap (IoU)", AGAINST, "", everything.mean_overlap, goal=_OVERLAP[mode]
        ),
        share_figure(
            f"{key}.extra", f"{what}: extra faces", AGAINST, everything.extra, everything.theirs, goal=_EXTRA,
            note=f"{everything.unknown} of {everything.extra} unknown to it at any score",
        ),
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> Section:
    modes = detector_modes(options.engine)
    tools = {mode: Tools(stage1_settings(detector=mode, engine=options.engine).config) for mode in modes}
    settings = tools[modes[0]].config
    sides: dict[str, Side] = {"plain": Plain(settings.detector), **{mode: Ours(tools[mode]) for mode in modes}}
    tally = Tally()
    try:
        with tempfile.TemporaryDirectory() as name, DecoderProcess(settings.decoder) as decoder:
            folder = Path(name)
            speed(clips_for_speed(folder, options.quick), sides, decoder, tally, options.repeats, settings)
            kinds = {"real": real_clips(), "generated": generated_clips(folder)}
            if options.quick:
                kinds = {"real": [p for p in kinds["real"] if p.name == "single_face.mp4"],
                         "generated": [wide_portrait(folder / "wide.mp4", 360, seconds=1)]}  # fmt: skip
            kinds = {kind: paths for kind, paths in kinds.items() if paths}
            agreement(kinds, sides, decoder, tally, 8 if options.quick else options.frames, settings)
    finally:
        for each in tools.values():
            each.close()
    skipped = [f"detection {MODE_TEXT[mode]}: not in this version" for mode in MODES if mode not in modes]
    if not real_clips():
        skipped.append("agreement on real clips: the folder is not there")
    details = {
        "engine": settings.engine,
        "cpu_seconds": tally.seconds,
        "cpu_seconds_per_frame": tally.clips,
        "frames": tally.frames,
        "agreement": {
            mode: {kind: {clip: found.as_json() for clip, found in clips.items()} for kind, clips in kinds_.items()}
            for mode, kinds_ in tally.agreement.items()
        },
    }
    return Section("detection", tuple(figures(tally)), details=details, skipped=tuple(skipped))


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=3)
    arguments.add_argument("--frames", type=int, default=150, help="of each clip, for agreement; 0: all (default: 150)")
    run(arguments, measure, argv)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
