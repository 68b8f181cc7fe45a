"""Peak memory of a worker and its decoding process: ``python -m tests.benchmarks.memory [CLIP...]``.

``extract`` with one worker on a clip, on the same clip repeated, and on both enlarged to 1080 lines. Memory follows
frame size and faces per batch, not the sampling rate, so the large ones are sampled less often to save time (see
``--fps-large``); the smallest face searched for stays at 20 px, for it decides the image pyramid.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.extract import resolve_config
from schemas.config import ExtractConfig, SamplingConfig
from tests.benchmarks.measure import carphone, loop_clip, machine, parser, scale_clip, table, video_seconds
from tests.benchmarks.runs import PeakMemory, extract

LIMIT_MB = 1500


def peak_of(clip: Path, fps: float) -> PeakMemory:
    """Peaks of one run in processes of its own."""
    dataset = resolve_config(ExtractConfig(sampling=SamplingConfig(fps=fps)))
    with tempfile.TemporaryDirectory() as features, PeakMemory() as peak:
        extract(clip, Path(features), dataset, workers=1)
    return peak


def measure(clip: Path, fps: float, times: Sequence[int], repeats: int, title: str, folder: Path) -> str:
    """One row per length; the last column compares with the shortest."""
    longer = {count: loop_clip(clip, folder / f"{clip.stem}-{count}.mp4", times=count) for count in times}
    peaks: dict[int, list[PeakMemory]] = {count: [] for count in times}
    for _ in range(repeats):
        for count in times:
            peaks[count].append(peak_of(longer[count], fps))
    worst = {count: max(found, key=lambda peak: peak.together) for count, found in peaks.items()}
    rows = [
        [
            f"{count}x, {video_seconds(longer[count]):.0f} s",
            f"{peak.worker:.0f}",
            f"{peak.decoder:.0f}",
            f"{peak.together:.0f}",
            f"{peak.together / worst[times[0]].together:.2f}",
            "yes" if peak.together < LIMIT_MB else "no",
        ]
        for count, peak in worst.items()
    ]
    header = ["length", "worker MB", "decoding MB", "together MB", f"against {times[0]}x", "under 1.5 GB"]
    return table(f"{title}, {fps:g} sampled frames per second, worst of {repeats}", header, rows)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=1)
    arguments.add_argument("--times", type=int, nargs="+", default=[1, 20], help="lengths (default: 1 20)")
    arguments.add_argument("--fps", type=float, default=6.0, help="sampling of the clip as it is (default: 6)")
    arguments.add_argument("--fps-large", type=float, default=1.0, help="sampling of the enlarged one (default: 1)")
    arguments.add_argument(
        "--height", type=int, default=1080, help="lines of the enlarged one; 0: none (default: 1080)"
    )
    options = arguments.parse_args(argv)
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in options.clip or [carphone()]:
            title = f"{clip.name} as it is"
            print(measure(clip, options.fps, options.times, options.repeats, title, folder), flush=True)
            if options.height:
                large = scale_clip(clip, folder / f"{clip.stem}-{options.height}.mp4", height=options.height)
                title = f"{clip.name} at {options.height} lines"
                print(measure(large, options.fps_large, options.times, options.repeats, title, folder), flush=True)


if __name__ == "__main__":
    main()
