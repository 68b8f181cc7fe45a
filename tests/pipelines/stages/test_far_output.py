"""Stage 2 on an output in a store that answers late: tables are looked into side by side, to the same result."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.abaw.scoring.predicted_series import open_tables
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.prediction.prediction_tables import part_name, part_uri, read_part_footer, write_part
from emobeam.emo_transforms.prediction.video_parts import missing_parts
from emobeam.pipelines.challenge.submit import run_submit
from emobeam.pipelines.stages.output_folder import list_earlier, to_do
from emobeam.pipelines.stages.predict import _items, run_predict
from emobeam.pipelines.stages.predict_request import PredictRequest, head_specs
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import task_named
from tests.pipelines.conftest import Run
from tests.pipelines.runs import STAGE_2, Told, files, parts
from tests.slow_store import SlowStore, slow_store

OTHERS = [f"other {number:02d}" for number in range(64)]
LATENCY = 0.1

AU = task_named("au")


@pytest.fixture
def output(reference: Run, tmp_path: Path) -> Path:
    """The reference's predictions and those of many more videos, which are not in its cache."""
    folder = tmp_path / "out"
    shutil.copytree(reference.output / "predictions", folder / "predictions")
    talk = part_uri(str(folder), "au", "talk")
    table, footer = pq.read_table(talk), read_part_footer(talk)
    for video in OTHERS:
        write_part(part_uri(str(folder), "au", video), table, {**footer, "video": video})
    return folder


@pytest.fixture
def store() -> Iterator[type[SlowStore]]:
    with slow_store(LATENCY) as slow:
        yield slow


def request_of(reference: Run, output: Path | str, **options: Any) -> PredictRequest:
    return PredictRequest(str(reference.features), str(output), heads=("untrained",), config=STAGE_2, **options)


def part_of(output: Path, video: str) -> Path:
    return output / "predictions" / "au" / part_name(video)


def test_a_run_with_nothing_to_do_looks_into_every_table_twice_and_many_at_a_time(
    reference: Run, output: Path, store: type[SlowStore], pool: LocalPool
) -> None:
    shutil.copy(part_of(output, "talk"), output / "predictions" / "au" / "copy of talk.parquet")
    shutil.copy(part_of(output, "absent"), output / "predictions" / "au" / "copy of absent.parquet")
    part_of(output, OTHERS[7]).write_bytes(b"PAR1 but no more")
    before, told = parts(output), Told()
    run_predict(request_of(reference, f"slow://{output}", only="talk"), told, pool)
    assert told.items("predict") == 0
    assert parts(output) == {name: data for name, data in before.items() if name != "copy of talk.parquet"}
    assert [text for text in told.warned if "1 table of other videos" in text and part_name(OTHERS[7]) in text]
    # Before and after the run; nobody looks into a table in between that is named after another video.
    assert {store.opened[str(part_of(output, video))] for video in OTHERS if video != OTHERS[7]} == {2}
    assert 8 <= store.most <= 16
    assert store.alone < len(OTHERS) / 2, "side by side both times"


def test_what_is_left_to_do_is_the_same_near_and_far(reference: Run, output: Path, store: type[SlowStore]) -> None:
    """One table is fine; the others are missing, damaged, of other settings, or there under another name alone."""
    part_of(output, "absent").write_bytes(b"damaged")
    part_of(output, "day 1/pair").rename(output / "predictions" / "au" / "elsewhere.parquet")
    nobody = part_of(output, "nobody")
    footer = read_part_footer(str(nobody))
    write_part(str(nobody), pq.read_table(nobody), {**footer, "predict_id": "of other settings"})
    dataset = read_dataset(str(reference.features))
    near, far = request_of(reference, output), request_of(reference, f"slow://{output}")
    _, tools = head_specs(near, dataset, Told())
    segments, every = make_index(str(reference.features))
    items = _items(near, every, segments, tools)
    assert len(items) == 4
    read = [item for item in items if missing_parts(item, tools, str(output), near.config)]
    assert [item.video for item in read] == ["absent", "day 1/pair", "nobody"]
    earlier = list_earlier(far)
    asked = store.opened.total()
    assert to_do(far, tools, items, earlier) == to_do(near, tools, items, list_earlier(near)) == read
    assert store.opened.total() == asked, "the listing knows"
    other = replace(far, config=replace(far.config, max_gap=0.1))
    assert to_do(other, tools, items, earlier) == items
    nothing = replace(far, output=f"slow://{output}-that-is-not-there")
    assert to_do(nothing, tools, items, list_earlier(nothing)) == items


def test_tables_for_a_submission_are_found_side_by_side(output: Path, store: type[SlowStore]) -> None:
    near = open_tables(str(output), AU)
    far = open_tables(f"slow://{output}", AU)
    assert store.alone < len(OTHERS) / 2
    assert near is not None
    assert far is not None
    assert far.places == near.places
    assert [uri.removeprefix("slow://") for uri in far.parts.values()] == list(near.parts.values())
    assert set(store.opened.values()) == {1}


def test_a_submission_looks_into_the_tables_once_and_reads_them_once(output: Path, store: type[SlowStore]) -> None:
    store.latency = 0.0
    run_submit(f"slow://{output}", AU, 8, ui=Told())
    far = files(output, "submission/**/*")
    shutil.rmtree(output / "submission")
    run_submit(str(output), AU, 8, ui=Told())
    assert files(output, "submission/**/*") == far
    assert {store.opened[str(part_of(output, video))] for video in OTHERS} == {2}


@pytest.mark.parametrize("what", ["damaged", "of another task", "gone in between"])
def test_the_first_table_that_is_wrong_is_named(
    what: str, output: Path, store: type[SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of names, whichever of them is read first."""
    store.latency = 0.02
    first, second = part_of(output, OTHERS[20]), part_of(output, OTHERS[40])
    second.write_bytes(b"damaged, too")
    if what == "damaged":
        first.write_bytes(b"damaged")
    elif what == "of another task":
        write_part(str(first), pq.read_table(first), {**read_part_footer(str(first)), "task": "va"})
    else:
        monkeypatch.setattr("emobeam.emo_transforms.storage.names", lambda uri, suffix: {first.stem, second.stem})
        first.unlink()
    said = {}
    for root in (str(output), f"slow://{output}"):
        with pytest.raises((EmobeamError, FileNotFoundError)) as error:
            open_tables(root, AU)
        said[root] = type(error.value), str(error.value).replace("slow://", "")
    assert said[str(output)] == said[f"slow://{output}"]
    assert first.name in said[str(output)][1]
