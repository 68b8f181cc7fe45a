"""What a run leaves alone, and what it looks at again."""

from __future__ import annotations

from emobeam.emo_transforms.extraction.resume_plan import complete_videos, tasks_of
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.plain_json import to_text
from emobeam.schemas.records import Display, Video


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
