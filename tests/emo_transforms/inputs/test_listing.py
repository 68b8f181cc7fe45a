"""Which files of a folder are videos, and what is told of the others."""

from __future__ import annotations

import pytest

from emobeam.emo_transforms.inputs.listing import has_video_extension, left_out


def test_what_is_left_out_of_a_folder_by_its_ending_is_told() -> None:
    paths = ["a/x.mp4", "a/x.csv", "a/README", "a/tape.rm", "b/tape.RM", *(f"c/{n:04d}.png" for n in range(30))]
    told = left_out(paths)
    assert "3 files left out (.rm 2, no ending 1)" in told
    assert "1 folder of pictures left out" in told
    assert left_out(["a/x.mp4", "a/x.srt", "a/poster.jpg"]) == ""


@pytest.mark.parametrize(
    "ending", ["vob", "3g2", "dv", "m2v", "divx", "f4v", "qt", "mod", "tod", "mpe", "m2t", "mp4v", "gif"]
)
def test_files_of_camcorders_discs_and_phones_are_videos(ending: str) -> None:
    assert has_video_extension(f"tape.{ending.upper()}")
