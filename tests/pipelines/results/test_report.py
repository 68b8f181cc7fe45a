"""The page as a browser sees it: no errors, no requests, plots that zoom, and the numbers of the tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner

from emobeam.emo_transforms.prediction.prediction_tables import part_uri
from emobeam.emo_transforms.results.report.pack import unpack
from emobeam.pipelines.cli import cli
from emobeam.pipelines.results.report import ReportRequest, run_report
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.report.browser import browser, needs_chromium, page_of
from tests.emo_transforms.results.report.outputs import (
    damage_pages,
    face_row,
    table_of,
    write_cache,
    write_collection,
    write_run,
    write_table,
)
from tests.emo_transforms.results.report.test_gather import write_va
from tests.pipelines.conftest import Run
from tests.pipelines.runs import Told

EVIL = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "ünïcode/视频 & \"quotes\" 'both'")
DRAWN = """() => [...document.querySelectorAll('.plot canvas')].map((canvas) => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
  return count;
})"""
PAINTED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Returns when what was asked for before is on the screen."""

READY = "window.emobeamReport && emobeamReport.range"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos with ids that try to be HTML, one with two faces, one that has failed; labels of one."""
    output = tmp_path_factory.mktemp("evil")
    for index, name in enumerate(EVIL):
        for task in ("va", "expr", "au"):
            gap = (12.0, 16.0) if index == 0 else None
            table = table_of(name, task, 30, faces=2 if index == 0 else 1, absent=gap, seed=index)
            write_table(output, task, name, table)
    videos = [{"video": name, "duration": 30.0, "sampled": 180, "with_face": 150} for name in EVIL]
    failed = {"video": "<b>gone</b>", "outcome": "failed", "stage": "open", "reason": "damaged", "message": "<i>no</i>"}
    faces = [face_row(EVIL[0], face, 30) for face in (0, 1)] + [face_row(name, 0, 30) for name in EVIL[1:]]
    heads = {"va": [{"name": "<u>head</u>", "weights": "untrained", "sha256": "00"}]}
    write_run(output, [*videos, failed], faces, heads=heads, warnings=["<script>alert(3)</script>"])
    run_report(ReportRequest(str(output)), Told())
    return output


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    needs_chromium()
    with browser() as running:
        yield running


@pytest.fixture
def tab(chrome: Any, evil: Path) -> Iterator[tuple[Any, list[str]]]:
    with page_of(chrome, evil / "report.html") as (page, problems):
        page.goto((evil / "report.html").as_uri())
        page.wait_for_function(READY)
        yield page, problems


def test_it_loads_alone_and_nothing_in_a_name_runs(tab: tuple[Any, list[str]]) -> None:
    page, problems = tab
    assert page.evaluate("emobeamReport.videos") == sorted([*EVIL, "<b>gone</b>"])
    for name in EVIL:
        page.evaluate("name => emobeamReport.open(name)", name)
        assert page.locator(".video-head h3").inner_text() == name
    page.evaluate("emobeamReport.open('<b>gone</b>')")
    assert "<i>no</i>" in page.locator("#viewer").inner_text()
    page.wait_for_timeout(100)
    assert problems == []
    assert page.locator("img, main b b, main u, main i").count() == 0
    assert "mean nothing" in page.locator(".banner.bad").inner_text()
    assert "<script>alert(3)</script>" in page.locator(".banner.warn").inner_text()


def test_numbers_are_those_of_the_tables(tab: tuple[Any, list[str]], evil: Path) -> None:
    page, _ = tab
    page.evaluate("name => emobeamReport.open(name)", EVIL[0])
    for task in ("va", "expr", "au"):
        table = pd.read_parquet(part_uri(str(evil), task, EVIL[0]))
        for face in (0, 1):
            rows = table[(table["face"] == face) & (table["source"] == "sampled")]
            for place in (0.0, 3.1, 11.9, 17.2, 29.9):
                found = page.evaluate("([place, face]) => emobeamReport.at(place, face)", [place, face])
                nearest = table[(table["face"] == face) & (table["frame"] == found["frame"])].iloc[0]
                assert abs(found["time"] - nearest["time"]) < 1e-3
                assert abs(found["time"] - place) <= abs(rows["time"] - place).min() + 1e-3
                for output in TASKS[task].outputs:
                    assert abs(found["values"][task][output] - nearest[output]) <= 0.005
    absent = page.evaluate("emobeamReport.at(14)")
    assert absent["source"] == "absent"
    assert absent["values"]["va"]["valence"] is None


def test_what_is_written_beside_the_lanes_is_the_row_under_the_cursor(tab: tuple[Any, list[str]], evil: Path) -> None:
    page, _ = tab
    page.evaluate("name => emobeamReport.open(name)", EVIL[1])
    page.evaluate("emobeamReport.point(10.1)")
    frame = int(re.search(r"frame (\d+)", page.locator(".readout").inner_text())[1])  # type: ignore[index]
    shown = [float(text.replace("\u2212", "-")) for text in page.locator(".value").all_inner_texts()]
    expected: list[float] = []
    for task in ("va", "expr", "au"):
        table = pd.read_parquet(part_uri(str(evil), task, EVIL[1])).set_index("frame")
        expected += table.loc[frame, list(TASKS[task].outputs)].tolist()
    np.testing.assert_allclose(shown, expected, atol=0.005)


def test_plots_are_drawn_and_dragging_zooms(tab: tuple[Any, list[str]]) -> None:
    page, problems = tab
    page.evaluate("name => emobeamReport.open(name)", EVIL[0])
    page.evaluate(PAINTED)
    assert [count > 500 for count in page.evaluate(DRAWN)] == [True, True, True]
    low, high = page.evaluate("emobeamReport.range")
    page.locator(".plot .u-over").first.scroll_into_view_if_needed()
    box = page.locator(".plot .u-over").first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
    page.mouse.up()
    first, last = page.evaluate("emobeamReport.range")
    assert first == pytest.approx(low + (high - low) * 0.25, abs=0.3)
    assert last == pytest.approx(low + (high - low) * 0.5, abs=0.3)
    page.locator(".plot .u-over").first.dblclick()
    assert page.evaluate("emobeamReport.range") == [low, high]
    page.evaluate("emobeamReport.zoom(5, 7)")
    assert page.evaluate("emobeamReport.range") == [5, 7]
    page.locator("label.face", has_text="face 1").click()
    page.wait_for_function("() => document.querySelectorAll('.value .of-face').length === 2 * 22")
    assert problems == []


def test_the_keyboard_moves_and_zooms(tab: tuple[Any, list[str]]) -> None:
    page, _ = tab
    page.evaluate("name => emobeamReport.open(name)", EVIL[1])
    bar = page.get_by_role("slider")
    bar.focus()
    page.keyboard.press("Home")
    places = [float(bar.get_attribute("aria-valuenow"))]
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        places.append(float(bar.get_attribute("aria-valuenow")))
    assert np.diff(places) == pytest.approx([1 / 6, 1 / 6, 10 / 6, -1 / 6], abs=0.05)
    whole = page.evaluate("emobeamReport.range")
    page.keyboard.press("+")
    low, high = page.evaluate("emobeamReport.range")
    assert high - low == pytest.approx((whole[1] - whole[0]) / 2)
    page.keyboard.press("End")
    assert page.evaluate("emobeamReport.range[1]") == pytest.approx(whole[1])
    page.keyboard.press("Escape")
    assert page.evaluate("emobeamReport.range") == whole
    page.locator("#viewer [role=status]", has_text="valence").wait_for(state="attached")


def test_the_list_is_searched_filtered_and_sorted(tab: tuple[Any, list[str]]) -> None:
    page, _ = tab
    page.locator("#find").fill("视频")
    assert page.locator("#list li:visible").count() == 1
    page.locator("#find").fill("")
    page.locator("#outcome").select_option("failed")
    assert page.locator("#list li:visible .id").all_inner_texts() == ["<b>gone</b>"]
    page.locator("#outcome").select_option("")
    page.locator("#sort").select_option("duration")
    assert page.locator("#list li .id").all_inner_texts()[-1] == "<b>gone</b>"


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_width_and_follows_the_theme(chrome: Any, evil: Path, width: int, scheme: str) -> None:
    context = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with page_of(chrome, evil / "report.html", **context) as (page, problems):
        page.goto((evil / "report.html").as_uri())
        page.wait_for_function(READY)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part < 60)"
        assert page.evaluate(dark) == (scheme == "dark")
        page.locator("#theme").select_option("light" if scheme == "dark" else "dark")
        assert page.evaluate(dark) == (scheme == "light")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator(".tools").is_hidden()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert problems == []


def test_truth_stands_beside_with_the_figure_of_the_video(chrome: Any, tmp_path: Path) -> None:
    names = write_collection(tmp_path / "out", 2, 20, ["va"])
    table = table_of(names[0], "va", 20, seed=0)
    rows = np.clip(np.stack([table["valence"].to_numpy(), table["arousal"].to_numpy()], 1) * 0.5, -1, 1)
    rows[:30] = -5
    write_va(tmp_path / "labels", "video_001", rows)
    told = Told()
    request = ReportRequest(str(tmp_path / "out"), str(tmp_path / "page.html"), truth=str(tmp_path / "labels"))
    run_report(request, told)
    with page_of(chrome, tmp_path / "page.html") as (page, problems):
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function(READY)
        found = page.evaluate("emobeamReport.at(10)")
        assert abs(found["truth"]["va"]["valence"] - rows[found["frame"] - 1, 0]) <= 0.005
        assert page.evaluate("emobeamReport.at(0.5)")["truth"]["va"]["valence"] is None
        assert "mean CCC" in page.locator(".figure").inner_text()
        assert page.locator("#list li").first.get_attribute("data-score-va") is not None
        assert problems == []


def test_a_real_run(chrome: Any, reference: Run, tmp_path: Path) -> None:
    """Both stages over real clips: pictures come from the videos, and no face means no timeline but a word."""
    request = ReportRequest(str(reference.output), str(tmp_path / "page.html"), videos=str(reference.inputs))
    result = run_report(request, Told())
    assert result.videos == 4
    assert result.pictures > 0
    with page_of(chrome, tmp_path / "page.html") as (page, problems):
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function(READY)
        for name in page.evaluate("emobeamReport.videos"):
            page.evaluate("name => emobeamReport.open(name)", name)
        page.evaluate("emobeamReport.open('talk')")
        assert page.locator(".thumbs .thumb").count() > 0
        assert problems == []


class _Text(HTMLParser):
    """Landmarks, headings and tables of a page, without running it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_without_a_browser(evil: Path) -> None:
    """What readers without scripts get, and that the packed content is what the tables hold."""
    text = (evil / "report.html").read_text("utf-8")
    parser = _Text()
    parser.feed(text)
    assert {"main", "nav", "header", "h1", "h2", "h3", "noscript", "table", "th"} <= set(parser.tags)
    assert parser.tags.count("h1") == 1
    assert "alert(1)>" not in text.replace("alert(1)&gt;", "").replace("alert(1)\\u003e", "")
    assert not re.search(r"(?:src|href)=.?https?:", text)
    packed = re.findall(r'<script type="text/plain" id="video-\d+">([A-Za-z0-9+/=]*)</script>', text)
    assert len(packed) == 3
    document, _ = unpack(packed[1])
    assert sorted(document["tasks"]) == ["au", "expr", "va"]


def test_equal_folders_give_equal_pages_but_for_the_time(evil: Path, tmp_path: Path) -> None:
    pages = []
    for number in (1, 2):
        run_report(ReportRequest(str(evil), str(tmp_path / f"{number}.html")), Told())
        pages.append(re.sub(r" on \d{4}-\d\d-\d\d \d\d:\d\d UTC", "", (tmp_path / f"{number}.html").read_text()))
    assert pages[0] == pages[1]


def test_figures_are_of_all_sampled_rows(chrome: Any, tmp_path: Path) -> None:
    """30 frames a second, all looked at, AU12 in every third only: a third is drawn, all are counted."""
    table = pa.concat_tables([table_of("a", "au", 120)])
    values = np.zeros(3000, np.float32)
    values[::3] = 0.9
    columns = {"AU12": pa.array(values), "time": pa.array(np.arange(3000) / 30)}
    columns["source"] = pa.array(["sampled"] * 3000).dictionary_encode().cast(table.schema.field("source").type)
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    write_table(tmp_path, "au", "a", table)
    write_run(tmp_path, [{"video": "a"}])
    run_report(ReportRequest(str(tmp_path)), Told())
    expected = ["3\u202f000", "0.300", "0.424"]
    with page_of(chrome, tmp_path / "report.html") as (page, problems):
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_function(READY)
        assert "2\u202f000 sampled rows were left out" in page.locator("#how").inner_text()
        page.locator("#outputs details").evaluate("one => { one.open = true }")
        row = page.locator("#outputs tr", has=page.get_by_role("rowheader", name="AU12", exact=True))
        cells = row.locator("td").all_inner_texts()
        assert [*cells[:3], cells[-1]] == [*expected, "33 %"]
        page.locator("#viewer details").evaluate("one => { one.open = true }")
        row = page.locator("#viewer tr", has=page.get_by_role("rowheader", name="AU12", exact=True))
        row.wait_for()
        assert row.locator("td").all_inner_texts() == ["main face", "3000", "0.300", "0.424", "0.000", "0.900", "33 %"]
        assert problems == []


@pytest.mark.parametrize("footer", [True, False])
def test_a_damaged_table_leaves_the_others(tmp_path: Path, footer: bool) -> None:
    names = write_collection(tmp_path, 3, 20, ["va", "au"])
    uri = part_uri(str(tmp_path), "va", names[1])
    if footer:
        Path(uri).write_bytes(Path(uri).read_bytes()[:-50])
    else:
        damage_pages(uri)
    table = table_of(names[0], "va", 20, seed=0)
    rows = np.stack([table["valence"].to_numpy(), table["arousal"].to_numpy()], axis=1)
    for number in (1, 2):
        write_va(tmp_path / "labels", f"video_00{number}", rows)
    told = Told()
    result = run_report(ReportRequest(str(tmp_path), truth=str(tmp_path / "labels")), told)
    assert list(result.failed) == [names[1]]
    assert any("1 videos have tables that can't be used" in text and uri in text for text in told.warned)
    page = (tmp_path / "report.html").read_text()
    assert "table damaged" in page
    packed = [
        unpack(text)[0] for text in re.findall(r'<script type="text/plain" id="video-\d+">([^<]*)</script>', page)
    ]
    assert [sorted(document["tasks"]) for document in packed] == [["au", "va"], ["au"], ["au", "va"]]
    assert "run emobeam predict again" in packed[1]["note"]
    assert [entry["figure"]["score"] for entry in packed[0]["tasks"]["va"]] == [pytest.approx(1, abs=1e-6)]
    done = CliRunner().invoke(cli, ["report", str(tmp_path), "--no-thumbnails", "--json"])
    assert (done.exit_code, list(json.loads(done.stdout)["failed"])) == (1, [names[1]])


def test_a_hundred_videos_scaled_down_stay_small(tmp_path: Path) -> None:
    """Five videos of two minutes are a hundredth of what must stay under 30 MB, but for the page itself."""
    names = write_collection(tmp_path, 5, 120, ["au"])
    write_cache(tmp_path, names, 120, every=30)
    with_pictures = run_report(ReportRequest(str(tmp_path)), Told())
    bare = run_report(ReportRequest(str(tmp_path), str(tmp_path / "bare.html"), thumbnails=False), Told())
    assert 5 * 20 <= with_pictures.pictures <= 5 * 24
    assert bare.pictures == 0
    assert bare.bytes - 150_000 < 0.01 * 10_000_000
    assert with_pictures.bytes - bare.bytes < 5 * 24 * 2500


def test_the_command(evil: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "page.html"
    done = CliRunner().invoke(cli, ["report", str(evil), "--output", str(target), "--no-thumbnails", "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert (data["path"], data["bytes"], data["videos"]) == (str(target), target.stat().st_size, 4)
    assert list(target.parent.iterdir()) == [target]


def test_a_page_in_a_store(evil: Path) -> None:
    import fsspec

    result = run_report(ReportRequest(str(evil), "memory://pages/report.html"), Told())
    assert fsspec.filesystem("memory").size("/pages/report.html") == result.bytes


def test_mistakes_are_told(evil: Path, tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such folder"):
        run_report(ReportRequest(str(tmp_path / "none")), Told())
    with pytest.raises(UsageError, match="--truth"):
        run_report(ReportRequest(str(evil), partition="train"), Told())
    with pytest.raises(EmobeamError, match="no labels"):
        run_report(ReportRequest(str(evil), truth=str(tmp_path)), Told())


def test_clips_and_crops_without_time(chrome: Any, tmp_path: Path) -> None:
    from emobeam.schemas.tables import predictions_schema

    outputs = TASKS["emi"].outputs
    row = {"video": "00012", "subject": "", **{name: 0.1 * place for place, name in enumerate(outputs, 1)}}
    write_table(tmp_path, "emi", "00012", pa.Table.from_pylist([row], predictions_schema(outputs, clip=True)))
    write_table(tmp_path, "va", "crops", table_of("crops", "va", 8, timed=False))
    write_run(tmp_path, [{"video": "00012"}, {"video": "crops"}])
    run_report(ReportRequest(str(tmp_path)), Told())
    with page_of(chrome, tmp_path / "report.html") as (page, problems):
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_function("window.emobeamReport && emobeamReport.current")
        page.evaluate("emobeamReport.open('00012')")
        cells = page.locator("#viewer td").all_inner_texts()
        assert [float(cell) for cell in cells] == pytest.approx([0.1 * n for n in range(1, 7)], abs=0.005)
        page.evaluate("emobeamReport.open('crops')")
        assert page.evaluate("emobeamReport.range") == [1, 200]
        assert "frame" in page.locator(".range").inner_text()
        assert problems == []
