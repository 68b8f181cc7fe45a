"""What a run leaves alone, and what it looks at again."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from emobeam.emo_transforms.cache.failures import read_failures
from emobeam.emo_transforms.cache.index import rebuild_index
from emobeam.emo_transforms.extraction.resume_plan import Look, complete_videos, look_at, note_failure, tasks_of
from emobeam.emo_transforms.inputs.listing import sizes_of
from emobeam.emo_transforms.inputs.videos import resolve_inputs
from emobeam.emo_transforms.storage import object_stores
from emobeam.emo_transforms.storage.fingerprints import fingerprint
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.plain_json import to_text
from emobeam.schemas.records import Display, InputError, Video, VideoTask


def row(video: str, segment: int, count: int, display: Display | None = None) -> dict[str, object]:
    text = to_text(display) if display else ""
    shard = f"{video}{segment}{len(text)}"
    return {
        "video": video,
        "size": 1,
        "digest": "d",
        "segment": segment,
        "count": count,
        "shard": shard,
        "display": text,
    }


def test_contents_of_which_it_isnt_known_how_they_are_shown_are_looked_at_again() -> None:
    rows = [row("known", 0, 1), row("unknown", 0, 1)]
    index = complete_videos(rows)
    videos = [Video("known", "/k"), Video("unknown", "/u")]
    every = list(tasks_of(videos, ExtractConfig(), index, {}, {}))
    assert [bool(task.complete) for task in every] == [True, True]
    some = list(tasks_of(videos, ExtractConfig(), index, {}, {}, {("known", 1, "d")}))
    assert [bool(task.complete) for task in some] == [True, False]
    told = list(tasks_of(videos, ExtractConfig(), index, {}, {}, {("known", 1, "d")}, rows))
    assert [task.there for task in told] == [(), (rows[1]["shard"],)], "what is right of it need not be made again"


def test_a_video_is_complete_with_shards_of_what_is_shown_alone() -> None:
    shown = Display(mirrored=True)
    rows = [row("a", 0, 2), row("a", 1, 2), row("a", 0, 2, shown)]
    assert not complete_videos(rows)
    rows.append(row("a", 1, 2, shown))
    index = complete_videos(rows)
    assert [each["display"] for each in index["a", 1, "d"]] == [to_text(shown)] * 2


BAD = {
    "zip": "zip://x.mp4::http://127.0.0.1:9/a.zip",
    "reference": "reference://",
    "github": "github://org:repo@main/x.mp4",
    "dask": "dask://x.mp4",
    "unknown": "foo://x.mp4",
    "data": "data://x",
    "tar": "tar://x.mp4::/nowhere",
}


def table_of(folder: Path, lines: list[str]) -> str:
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "t.csv")


def test_bad_addresses_in_a_table_are_failures_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_stores, "_ATTEMPTS", 1)

    def refuse(*args: object, **options: object) -> None:
        raise requests.exceptions.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", refuse)  # what github:// asks while its client is made
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    table = table_of(tmp_path, ["video,path", "clip,clip.mp4", *(f"{name},{uri}" for name, uri in BAD.items())])
    videos = {video.id: video for video in resolve_inputs([table])}
    assert sorted(videos) == sorted([*BAD, "clip"])
    assert fingerprint(videos["clip"].uri).size == 1
    for name, uri in BAD.items():
        task = VideoTask(videos[name])
        look = look_at(task, ExtractConfig(), lambda path: pytest.fail(path))
        assert look.error is not None, name
        assert str(look.error).startswith(uri), name
        assert (look.error.stage, look.error.permanent) == ("open", False)
    assert sizes_of([videos["clip"].uri, videos["unknown"].uri]) == [1, -1]


def test_an_address_with_a_token_keeps_it_for_the_work_alone(tmp_path: Path) -> None:
    uri = "https://ann:pa55@127.0.0.1:9/day/clip.mp4?X-Amz-Signature=ab.cd/ef"
    for inputs in ([uri], [table_of(tmp_path, ["video", uri])]):
        (video,) = resolve_inputs(inputs)
        assert video == Video("clip", uri)
    error = InputError(f"{uri}: no such file", stage="open", reason="missing", permanent=False)
    note_failure(str(tmp_path), video, Look(None, error=error), ExtractConfig())
    (record,) = (tmp_path / "failures").iterdir()
    assert "pa55" not in record.read_text()
    assert "ab.cd" not in record.read_text()
    (failure,) = read_failures(str(tmp_path)).values()
    assert failure.uri == "https://ann:***@127.0.0.1:9/day/clip.mp4?X-Amz-Signature=***"
    assert rebuild_index(str(tmp_path))["message"].to_pylist() == [f"{failure.uri}: no such file"]
