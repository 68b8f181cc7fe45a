"""A file that somebody changes while it is worked on, in every way in which people do that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emobeam.emo_transforms.storage.downloads import video_copy
from emobeam.emo_transforms.storage.fingerprints import fingerprint, unchanged
from emobeam.schemas.records import InputError

CLIP, OTHER = b"clip" * 500_000, b"rehto" * 400_000


def moved_over(clip: Path) -> None:
    os.replace(clip.with_name("other.mp4"), clip)


def replaced(clip: Path) -> None:
    clip.unlink()
    clip.write_bytes(OTHER)


def truncated(clip: Path) -> None:
    os.truncate(clip, 1000)


def overwritten(clip: Path) -> None:
    with open(clip, "r+b") as file:
        file.write(OTHER[:1000])


def overwritten_at_the_same_time(clip: Path) -> None:
    times = clip.stat()
    overwritten(clip)
    os.utime(clip, ns=(times.st_atime_ns, times.st_mtime_ns))


def overwritten_with_another_mode(clip: Path) -> None:
    overwritten_at_the_same_time(clip)
    clip.chmod(0o604)


def removed(clip: Path) -> None:
    clip.unlink()


def moved_away_and_put_back(clip: Path) -> None:
    """What was read meanwhile was another clip; the file itself is as it was."""
    os.replace(clip, clip.with_name("away.mp4"))
    clip.write_bytes(OTHER)
    os.replace(clip.with_name("away.mp4"), clip)


def folder_at(tmp_path: Path) -> Path:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(CLIP)
    clip.with_name("other.mp4").write_bytes(OTHER)
    return clip


CHANGES = (
    moved_over,
    replaced,
    truncated,
    overwritten,
    overwritten_at_the_same_time,
    overwritten_with_another_mode,
    removed,
    moved_away_and_put_back,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_clip_that_changes_while_it_is_read_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    clip = folder_at(tmp_path)
    before = fingerprint(str(clip))

    def work() -> None:
        with video_copy(str(clip), before) as path:
            assert path == str(clip)
            change(clip)

    with pytest.raises(InputError, match=r"clip\.mp4: has changed since it was looked at") as caught:
        work()
    assert (caught.value.reason, caught.value.permanent) == ("changed", False)


@pytest.mark.parametrize("change", [moved_over, truncated])
def test_whatever_goes_wrong_for_that_reason_is_told_as_that(tmp_path: Path, change: Callable[[Path], None]) -> None:
    clip = folder_at(tmp_path)
    before = fingerprint(str(clip))

    def fails() -> None:
        with unchanged(str(clip), before):
            change(clip)
            raise InputError("invalid data", stage="decode", reason="damaged", permanent=True)

    with pytest.raises(InputError, match="has changed") as caught:
        fails()
    assert not caught.value.permanent
    shutil.copy(clip, clip.with_name("sound.mp4"))
    sound = str(clip.with_name("sound.mp4"))
    with pytest.raises(InputError, match="invalid data"), unchanged(sound, fingerprint(sound)):
        raise InputError("invalid data", stage="decode", reason="damaged", permanent=True)


def test_a_clip_that_has_changed_before_is_not_begun(tmp_path: Path) -> None:
    clip = folder_at(tmp_path)
    before = fingerprint(str(clip))
    moved_over(clip)
    with pytest.raises(InputError, match="has changed"), unchanged(str(clip), before):
        pytest.fail("begun")


def test_a_clip_that_is_touched_is_the_same(tmp_path: Path) -> None:
    clip = folder_at(tmp_path)
    with unchanged(str(clip), fingerprint(str(clip))):
        os.utime(clip, (1, 1))
    with unchanged(str(clip), fingerprint(str(clip))):
        clip.write_bytes(CLIP)


def linked(clip: Path) -> None:
    os.link(clip, clip.with_name("link.mp4"))


def other_mode(clip: Path) -> None:
    clip.chmod(0o640)


@pytest.mark.parametrize("change", [linked, other_mode])
def test_links_and_modes_are_no_change(tmp_path: Path, change: Callable[[Path], None]) -> None:
    clip = folder_at(tmp_path)
    clip.chmod(0o600)
    with unchanged(str(clip), fingerprint(str(clip))):
        change(clip)
