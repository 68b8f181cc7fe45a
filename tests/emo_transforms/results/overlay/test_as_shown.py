"""The clip made again of videos that aren't plain: the pictures of the analysis, at its times, with sound in step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import read_number
from tests.emo_transforms.results.overlay.sound import tone, with_sound
from tests.emo_transforms.results.overlay.test_video_file import again, shown
from tests.emo_transforms.video.displayed import Part, apart, join, pictures_of, tape, weave
from tests.emo_transforms.video.picture.test_tones import write

CASES: dict[str, Callable[[Path], Path]] = {
    "flipped.mp4": lambda path: weave(path, [Part()], turn=(90, True)),
    "wide.mp4": lambda path: weave(path, [Part(width=256, height=96, aspect=2)]),
    "sizes.mp4": lambda path: weave(path, [Part(frames=9), Part(frames=9, width=128, height=192, begin=360)]),
    "restart.ts": lambda path: join(path, [Part(frames=9), Part(frames=9, begin=13)], codec="libx264"),
    "tape.mpg": lambda path: tape(path, frames=16)[0],
    "bright.mp4": lambda path: write(path, "PQ", "libx265", **{"preset": "ultrafast", "x265-params": "log-level=0"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("start", [0.0, 0.2], ids=["whole", "excerpt"])
def test_it_shows_what_was_analysed(tmp_path: Path, name: str, start: float) -> None:
    path = CASES[name](tmp_path / name)
    expected = pictures_of(path)
    found, done = again(path, tmp_path / "again.mp4", start=start)
    first = next(number for number, time in enumerate(found.times(), start=1) if time >= start - 1e-9)
    stamps, pictures = shown(tmp_path / "again.mp4")
    assert (done.frames, done.lost) == (len(expected) - first + 1, 0)
    times, wanted = np.array([float(stamp) for stamp in stamps]), np.array(found.times()[first - 1 :])
    np.testing.assert_allclose(times - times[0], wanted - wanted[0], atol=1e-3)
    for place, picture in enumerate(pictures):
        assert apart(picture, expected[first + place]) < 5
    with av.open(str(tmp_path / "again.mp4")) as container:
        # What was mapped to standard range must not call itself high range.
        assert int(container.streams.video[0].codec_context.color_trc) not in (16, 18)


def test_sound_runs_on_where_the_clock_starts_again(tmp_path: Path) -> None:
    parts = [with_sound(tmp_path / f"{name}.ts", frames=50) for name in ("a", "b")]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    found, done = again(path, tmp_path / "again.mp4")
    assert (done.frames, done.lost, done.audio) == (100, 0, "copied")
    assert len(found.display.clock) == 1
    stamps, pictures = shown(tmp_path / "again.mp4")
    assert [read_number(picture) for picture in pictures] == [*range(1, 51)] * 2
    samples, rate = tone(tmp_path / "again.mp4")
    for second, pitch in enumerate((220, 330, 220, 330)):
        wave = samples[second * rate + rate // 3 : second * rate + 2 * rate // 3]
        peak = np.argmax(np.abs(np.fft.rfft(wave))) * rate / len(wave)
        assert abs(peak - pitch) < 8
    with av.open(str(tmp_path / "again.mp4")) as container:
        heard = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]
    assert (np.diff(heard) > 0).all()
    # Each second half lies where its pictures lie.
    late = float(stamps[50] - stamps[0])
    assert abs(heard[len(heard) // 2] - heard[0] - late) < 0.1
