from __future__ import annotations

import io
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from emobeam.emo_transforms.inputs.crop_folders import crops_fingerprint, list_crops, read_crop, resolve_crops
from emobeam.schemas.records import EmobeamError, InputError, UsageError, Video

BAH = "90001/Visite 1/90001_Question_1_2024-11-14 09-00-00_Video.mp4"
EXAMPLES = Path(__file__).resolve().parents[3] / ".." / "shared" / "abaw-examples" / "image_layout"


def picture(shade: int = 0, kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (20, 16)) -> bytes:
    pixels = np.full((size[1], size[0], 3), shade, np.uint8)
    pixels[:, : size[0] // 2, 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def make(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number % 200) if path.suffix in {".jpg", ".jpeg", ".png"} else b"video")
    return root


def test_affwild2_folders_and_missing_frames(tmp_path: Path) -> None:
    make(
        tmp_path,
        *(f"cropped_aligned/900-30-640x360/{n}.jpg" for n in ("00001", "00002", "00004", "100000")),
        "cropped_aligned/900-30-640x360/Thumbs.db",
        "cropped_aligned/900-30-640x360/._00001.jpg",
        "cropped_aligned/.cache/00001.jpg",
        "cropped_aligned/video900_left/00003.jpg",
        "new_50_vids/901/00001.jpeg",
    )
    videos = resolve_crops(
        [str(tmp_path / "cropped_aligned"), str(tmp_path / "new_50_vids")], "affwild2", warn=pytest.fail
    )
    assert [(video.id, video.kind, video.time_uri) for video in videos] == [
        ("900-30-640x360", "crops", ""),
        ("901", "crops", ""),
        ("video900_left", "crops", ""),
    ]
    assert list_crops(videos[0], "affwild2") == [
        (1, "00001.jpg"),
        (2, "00002.jpg"),
        (4, "00004.jpg"),
        (100000, "100000.jpg"),
    ]
    assert list_crops(videos[1], "affwild2") == [(1, "00001.jpeg")]


def test_a_folder_whose_name_is_not_text(tmp_path: Path) -> None:
    """As with videos, where a name that isn't UTF-8 gives an id that can be stored."""
    [video] = resolve_crops([str(make(tmp_path, "day \udce9/1.jpg"))], "emi", warn=pytest.fail)
    assert video.id == "day \\udce9"
    assert list_crops(video, "emi") == [(2, "1.jpg")]


def test_emi_numbers_are_numbers(tmp_path: Path) -> None:
    make(tmp_path, *(f"00007/{n}.jpg" for n in (0, 1, 2, 10, 9, 100)))
    [video] = resolve_crops([str(tmp_path)], "emi", warn=pytest.fail)
    assert video.id == "00007"
    assert list_crops(video, "emi") == [(n + 1, f"{n}.jpg") for n in (0, 1, 2, 9, 10, 100)]


def test_bah_folders_end_in_mp4(tmp_path: Path) -> None:
    make(tmp_path, *(f"{BAH}/frame-{n}.jpg" for n in (0, 1, 10, 2)))
    [video] = resolve_crops([str(tmp_path)], "bah", warn=pytest.fail)
    assert video.id == BAH.removesuffix(".mp4")
    assert video.uri == str(tmp_path / BAH)
    assert list_crops(video, "bah") == [
        (1, "frame-0.jpg"),
        (2, "frame-1.jpg"),
        (3, "frame-2.jpg"),
        (11, "frame-10.jpg"),
    ]


def test_one_folder_of_images_is_a_video(tmp_path: Path) -> None:
    make(tmp_path, "x/video7/00001.jpg")
    [video] = resolve_crops([str(tmp_path / "x/video7")], "affwild2", warn=pytest.fail)
    assert (video.id, video.uri) == ("video7", str(tmp_path / "x/video7"))


def test_raw_videos_supply_times(tmp_path: Path) -> None:
    make(tmp_path, "crops/set/video9_left/00001.jpg", "crops/set/video9_right/00001.jpg", "crops/set/7_1/00001.jpg")
    make(tmp_path, "crops/set/video10_left/00001.jpg", "crops/set/unknown/00001.jpg")
    make(
        tmp_path, "raw/batch1/video9.mp4", "raw/batch2/7_1.avi", "raw/batch2/video10_left.mp4", "raw/batch2/video10.mp4"
    )
    told: list[str] = []
    videos = resolve_crops([str(tmp_path / "crops")], "affwild2", videos=str(tmp_path / "raw"), warn=told.append)
    assert told == [f"--videos {tmp_path}/raw: no raw video, so no times, for 1 of 5 crop folders: set/unknown"]
    assert {video.id: video.time_uri for video in videos} == {
        "set/7_1": str(tmp_path / "raw/batch2/7_1.avi"),
        "set/unknown": "",
        "set/video10_left": str(tmp_path / "raw/batch2/video10_left.mp4"),
        "set/video9_left": str(tmp_path / "raw/batch1/video9.mp4"),
        "set/video9_right": str(tmp_path / "raw/batch1/video9.mp4"),
    }


def test_a_wrong_folder_of_raw_videos_is_refused(tmp_path: Path) -> None:
    """All times were null, without a word."""
    make(tmp_path, "crops/video9/00001.jpg", "crops/video10/00001.jpg", "wrong/other.mp4")
    with pytest.raises(
        UsageError, match=r"no video there is called as a folder of crops \(video10, video9\); it holds other"
    ):
        resolve_crops([str(tmp_path / "crops")], "affwild2", videos=str(tmp_path / "wrong"), warn=pytest.fail)


def test_folders_without_images_are_told(tmp_path: Path) -> None:
    make(tmp_path, "crops/a/v/00001.jpg", "crops/a/u/Thumbs.db", "crops/.hidden/x/00001.txt")
    (tmp_path / "crops" / "empty").mkdir()
    told: list[str] = []
    videos = resolve_crops([str(tmp_path / "crops")], "affwild2", warn=told.append)
    assert [video.id for video in videos] == ["a/v"]
    assert told == [f"{tmp_path}/crops: 2 folders without images, which give no rows: a/u, empty"]


def test_longer_ends_decide_between_raw_videos(tmp_path: Path) -> None:
    make(tmp_path, "crops/1/a/q.mp4/frame-0.jpg", "crops/1/b/q.mp4/frame-0.jpg", "raw/1/a/q.mp4", "raw/1/b/q.mp4")
    videos = resolve_crops([str(tmp_path / "crops")], "bah", videos=str(tmp_path / "raw"), warn=pytest.fail)
    assert [video.time_uri for video in videos] == [str(tmp_path / f"raw/1/{x}/q.mp4") for x in "ab"]
    make(tmp_path, "crops/2/q/frame-0.jpg")
    with pytest.raises(EmobeamError, match="1/a/q, 1/b/q"):
        resolve_crops([str(tmp_path / "crops")], "bah", videos=str(tmp_path / "raw"), warn=pytest.fail)


def test_one_id_in_two_roots(tmp_path: Path) -> None:
    make(tmp_path, "x/1/00001.jpg", "y/1/00001.jpg")
    with pytest.raises(UsageError) as error:
        resolve_crops([str(tmp_path / "x"), str(tmp_path / "y")], "affwild2", warn=pytest.fail)
    assert str(tmp_path / "x/1") in str(error.value)
    assert str(tmp_path / "y/1") in str(error.value)


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    make(tmp_path, "x/clip.mp4")
    with pytest.raises(UsageError, match="affwild2, emi, bah"):
        resolve_crops([str(tmp_path)], "other", warn=pytest.fail)
    with pytest.raises(UsageError, match="holds no images"):
        resolve_crops([str(tmp_path)], "emi", warn=pytest.fail)
    with pytest.raises(UsageError, match="no such"):
        resolve_crops([str(tmp_path / "y")], "emi", warn=pytest.fail)
    with pytest.raises(UsageError, match="no input"):
        resolve_crops([], "emi", warn=pytest.fail)


@pytest.mark.parametrize(
    ("layout", "names", "named"),
    [
        ("affwild2", ["00001.jpg", "2.jpg"], "2.jpg"),
        ("affwild2", ["00000.jpg"], "00000.jpg"),
        ("emi", ["0.jpg", "00001.jpg"], "00001.jpg"),
        ("bah", ["frame-0.jpg", "1.jpg"], "1.jpg"),
        ("affwild2", ["00001.jpg", "00001.png"], "same number"),
        ("affwild2", ["99999999999.jpg"], "99999999999.jpg"),
        ("affwild2", ["00001.jpg", "2000000000.jpg"], "frame 2000000000; .* up to 16777216"),
    ],
)
def test_a_wrong_layout_is_told(tmp_path: Path, layout: str, names: list[str], named: str) -> None:
    make(tmp_path, *names)
    with pytest.raises(InputError, match=named) as error:
        list_crops(Video(id="v", uri=str(tmp_path), kind="crops"), layout)
    assert (error.value.stage, error.value.reason, error.value.permanent) == ("open", "layout", True)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    make(tmp_path, "v/readme.txt")
    with pytest.raises(InputError) as missing:
        list_crops(Video(id="w", uri=str(tmp_path / "w")), "emi")
    assert (missing.value.reason, missing.value.permanent) == ("missing", False)
    with pytest.raises(InputError) as empty:
        list_crops(Video(id="v", uri=str(tmp_path / "v")), "emi")
    assert empty.value.reason == "empty"


def test_fingerprint_tells_content_not_place(tmp_path: Path) -> None:
    make(tmp_path, "v/0.jpg", "v/1.jpg")
    shutil.copytree(tmp_path / "v", tmp_path / "w")
    v, w = (Video(id=name, uri=str(tmp_path / name), kind="crops") for name in "vw")
    images = list_crops(v, "emi")
    first = crops_fingerprint(v, images)
    assert first.size == sum(path.stat().st_size for path in (tmp_path / "v").iterdir())
    assert first == crops_fingerprint(w, images[::-1])

    (tmp_path / "w/Thumbs.db").write_bytes(b"x")
    assert first == crops_fingerprint(w, list_crops(w, "emi"))
    (tmp_path / "w/1.jpg").rename(tmp_path / "w/2.jpg")
    assert first != crops_fingerprint(w, list_crops(w, "emi"))
    (tmp_path / "w/2.jpg").rename(tmp_path / "w/1.jpg")
    with (tmp_path / "w/1.jpg").open("ab") as file:
        file.write(b"x")
    assert first != crops_fingerprint(w, list_crops(w, "emi"))
    with pytest.raises(InputError, match=r"7\.jpg"):
        crops_fingerprint(v, [(8, "7.jpg")])


def test_a_store(tmp_path: Path) -> None:
    make(tmp_path, "v/00001.jpg", "v/00003.png")
    store = fsspec.filesystem("memory")
    root = f"/crops-{tmp_path.name}"
    try:
        store.put(str(tmp_path / "v"), f"{root}/v", recursive=True)
        [video] = resolve_crops([f"memory:/{root}"], "affwild2", warn=pytest.fail)
        images = list_crops(video, "affwild2")
        assert (video.id, images) == ("v", [(1, "00001.jpg"), (3, "00003.png")])
        local = Video(id="v", uri=str(tmp_path / "v"), kind="crops")
        assert crops_fingerprint(video, images) == crops_fingerprint(local, images)
        assert read_crop(f"{video.uri}/00001.jpg")[0] == (tmp_path / "v/00001.jpg").read_bytes()
    finally:
        store.rm(root, recursive=True)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "L"), ("PNG", "P")])
def test_pictures_become_rgb(tmp_path: Path, kind: str, mode: str) -> None:
    data = picture(51, kind, mode)
    (tmp_path / "a.png").write_bytes(data)
    raw, pixels = read_crop(str(tmp_path / "a.png"))
    assert raw == data
    assert pixels.shape == (16, 20, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[:, -1], np.full((16, 3), 51))
    left = [255, 51, 51] if mode != "L" else [round(0.299 * 255 + 0.701 * 51)] * 3
    assert np.abs(pixels[:, 0].astype(int) - left).max() <= 1


def test_damaged_pictures(tmp_path: Path) -> None:
    whole = picture(3, size=(200, 200))
    cases = {"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b"", "png": picture(1, "PNG")[:60]}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name) as error:
            read_crop(str(tmp_path / name))
        expected = ("decode", "empty" if name == "empty" else "damaged", True)
        assert (error.value.stage, error.value.reason, error.value.permanent) == expected
    with pytest.raises(InputError) as missing:
        read_crop(str(tmp_path / "gone.jpg"))
    assert (missing.value.stage, missing.value.reason, missing.value.permanent) == ("open", "missing", False)


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the example folders aren't here")
def test_the_organisers_layouts() -> None:
    cases = {
        "affwild2": (
            "cropped_aligned",
            {"900-30-640x360": [1, 2, 4, 5], "video900_left": [1, 2], "video900_right": [3]},
        ),
        "emi": ("EMI/face_images", {"00000": [1, 2, 3]}),
        "bah": (
            "BAH_ABAW8/cropped-aligned-faces",
            {"90001/Visite_1/90001_Question_1_2024-11-14_09-00-00_Video": [1, 2]},
        ),
    }
    for layout, (folder, expected) in cases.items():
        videos = resolve_crops([str(EXAMPLES / folder)], layout, warn=pytest.fail)
        assert {video.id: [n for n, _ in list_crops(video, layout)] for video in videos} == expected
