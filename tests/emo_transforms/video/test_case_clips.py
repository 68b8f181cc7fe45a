"""The clips of ``shared/cases/video/make.sh``, made by ffmpeg of a real face, look frame by frame like the plain one.

What they are examples of is woven small in :mod:`tests.emo_transforms.video.test_displayed`, which needs neither.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import Picture
from tests.emo_transforms.video.displayed import apart, pictures_of, probed

pytestmark = pytest.mark.slow

BASE = (640, 360)
SEEN = Callable[[str], dict[int, Picture]]


@pytest.fixture(scope="module")
def cases(shared_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = shared_videos.parent / "cases" / "video" / "make.sh"
    if shutil.which("ffmpeg") is None or not script.exists():
        pytest.skip("ffmpeg or the script that makes the clips isn't there")
    folder = tmp_path_factory.mktemp("cases")
    source = shared_videos / "faces" / "single_face.mp4"
    subprocess.run(["bash", str(script), str(source), str(folder)], check=True, timeout=600)
    return folder


@pytest.fixture(scope="module")
def seen(cases: Path) -> SEEN:
    @cache
    def of(name: str) -> dict[int, Picture]:
        return pictures_of(cases / name, stream=1 if name == "two_streams.mkv" else -1)

    return of


def as_base(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).resize(BASE, Image.Resampling.BOX))


LIKE_BASE = [
    *("restart.ts", "restart.webm", "clock_back.ts", "flip_h.mp4", "flip_v.mp4", "transpose.mp4", "dvd_wide.mpg"),
    *("sar2.mp4", "display_size.webm", "thumb_first.mp4", "two_streams.mkv"),
]


@pytest.mark.parametrize("name", LIKE_BASE)
def test_it_looks_like_the_plain_clip(cases: Path, seen: SEEN, name: str) -> None:
    base, mine = seen("base.mp4"), seen(name)
    assert list(mine) == list(base) == list(range(1, 101))
    times = probed(cases / name, 1 if name == "two_streams.mkv" else -1).times()
    np.testing.assert_allclose(times, np.arange(100) / 25, atol=2e-3)
    height, width = mine[1].shape[:2]
    assert width * BASE[1] == height * BASE[0]
    errors = [apart(as_base(mine[number]), base[number]) for number in base]
    # A frame that moved by one, or lies the other way, is further off than one that was coded twice.
    assert np.mean(errors) < 3
    wrong = [apart(as_base(mine[number]), base[number + 1]) for number in range(1, 100)]
    assert np.mean(errors) < 0.7 * np.mean(wrong)


@pytest.mark.parametrize("name", ["restart.ts", "restart.webm", "dvd_wide.mpg", "turn.webm", "tape_interlaced.mpg"])
def test_cutting_and_sampling_change_no_byte(cases: Path, seen: SEEN, name: str) -> None:
    some = pictures_of(cases / name, 2.0, fps=6.0)
    assert 20 <= len(some) <= 25
    assert all(np.array_equal(seen(name)[number], picture) for number, picture in some.items())


def test_a_turned_phone_shows_both_halves_undistorted(seen: SEEN) -> None:
    base, mine = seen("base.mp4"), seen("turn.webm")
    assert list(mine) == list(range(1, 101))
    height, width = mine[1].shape[:2]
    for number in (1, 50):
        assert apart(as_base(mine[number]), base[number]) < 4
    for number in (51, 100):
        # The middle 202 columns of the plain clip, 360 px high, in the middle and as high as the frame.
        across = round(height * 202 / 360)
        left = (width - across) // 2
        middle = Image.fromarray(mine[number][:, left : left + across]).resize((202, 360), Image.Resampling.BOX)
        assert apart(np.asarray(middle), base[number][:, 219 : 219 + 202]) < 5


def test_a_tape_becomes_whole_pictures(seen: SEEN) -> None:
    whole, mine = seen("tape_progressive.mpg"), seen("tape_interlaced.mpg")
    assert list(mine) == list(range(1, 101))
    assert np.mean([apart(mine[number], whole[number]) for number in whole]) < 4


def test_lost_packets_leave_times_right_and_are_told(cases: Path, seen: SEEN) -> None:
    probe = probed(cases / "hole.webm")
    numbers = np.rint(np.array(probe.times()) * 25).astype(int) + 1
    assert len(numbers) < 100
    assert any("shows no frame for" in note for note in probe.facts.notes)
    base, mine = seen("base.mp4"), seen("hole.webm")
    assert np.mean([apart(mine[rank], base[int(number)]) for rank, number in enumerate(numbers, start=1)]) < 4
