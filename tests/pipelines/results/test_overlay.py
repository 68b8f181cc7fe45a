"""``emobeam overlay`` on real runs: frames, times, and boxes where the shards say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.prediction.prediction_tables import part_uri
from emobeam.emo_transforms.results.overlay.scene import COLOURS
from emobeam.emo_transforms.results.overlay.video_file import Encoding
from emobeam.pipelines.cli import main
from emobeam.pipelines.results.overlay import OverlayRequest, run_overlay
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.results.report.outputs import damage_pages
from tests.pipelines.conftest import Run
from tests.pipelines.runs import Told, predict

LUMA = np.array([0.299, 0.587, 0.114])

SHARP = Encoding(crf=4, preset="ultrafast", threads=1)


def overlay(run: Run, clip: str, target: Path, **how: object) -> dict[str, object]:
    request = OverlayRequest(str(run.inputs / clip), str(run.output), str(target), encoding=SHARP, **how)  # type: ignore[arg-type]
    return run_overlay(request, Told())


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def stamps(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def test_boxes_stand_where_the_shards_say(reference: Run, tmp_path: Path) -> None:
    target = tmp_path / "talk.mp4"
    told = overlay(reference, "talk.mp4", target)
    assert (told["video"], told["frames"], told["untrained"]) == ("talk", 75, True)
    assert stamps(target) == pytest.approx(stamps(reference.inputs / "talk.mp4"), abs=1e-4)
    with av.open(str(target)) as container:
        comment = container.metadata["comment"]
    heads = json.loads((reference.output / "run.json").read_text())["heads"]
    assert comment.startswith("emobeam overlay; backbone mobilenetv4_conv_small, untrained (sha256 ")
    assert all(f"{task} untrained (sha256 {rows[0]['sha256'][:12]})" in comment for task, rows in heads.items())
    made = pictures(target)
    index = pq.read_table(reference.features / "segments.parquet").to_pylist()
    checked = 0
    for shard in (row["shard"] for row in index if row["video"] == "talk"):
        table = pq.read_table(reference.features / "shards" / f"{shard}.parquet", columns=["frame", "box"])
        for row in table.to_pylist():
            x1, _, x2, y2 = (round(value) for value in row["box"])
            edge = made[row["frame"] - 1][min(y2, 255), x1 + 4 : x2 - 4]
            assert np.abs(edge @ LUMA - COLOURS[0] @ LUMA).mean() < 12, row  # colours are halved in size by yuv420p
            checked += 1
    assert checked == 18


def test_all_faces_have_boxes_and_are_found_by_name(reference: Run, tmp_path: Path) -> None:
    target = tmp_path / "pair.mp4"
    told = overlay(reference, "day 1/pair.mp4", target)
    assert (told["video"], told["faces"], told["tasks"]) == ("day 1/pair", ["0", "1"], ["au"])
    before, after = pictures(reference.inputs / "day 1" / "pair.mp4")[0], pictures(target)[0][:256, :512]
    for colour in COLOURS[:2]:
        there, here = ((np.abs(frame - colour).sum(axis=2) < 80).sum() for frame in (before, after))
        assert here > there + 120
    main_only = overlay(reference, "day 1/pair.mp4", target, faces="main")
    assert main_only["faces"] == ["0"]


def test_excerpt_and_json(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "part.mp4"
    command = ["overlay", reference.inputs / "absent.mp4", reference.output, "--output", target, "--start", "1"]
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, command), "--end", "2", "--task", "au", "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert (stopped.value.code, err) == (0, "")
    told = json.loads(out)
    assert (told["frames"], told["bytes"]) == (25, target.stat().st_size)
    assert stamps(target)[0] == 0


def test_what_cannot_be_shown(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes((reference.inputs / "talk.mp4").read_bytes())
    with pytest.raises(EmobeamError, match="none of the videos of the output folder"):
        run_overlay(OverlayRequest(str(other), str(reference.output)), Told())
    with pytest.raises(UsageError, match="is the clip itself"):
        overlay(reference, "talk.mp4", reference.inputs / "talk.mp4")
    with pytest.raises(EmobeamError, match="no predictions of task va"):
        overlay(reference, "talk.mp4", tmp_path / "x.mp4", tasks=("va",))
    with pytest.raises(UsageError, match="--faces someone"):
        overlay(reference, "talk.mp4", tmp_path / "x.mp4", faces="someone")
    with pytest.raises(UsageError, match="--faces 7: none of these"):
        overlay(reference, "talk.mp4", tmp_path / "x.mp4", faces="7")
    with pytest.raises(EmobeamError, match=r"holds no run\.json"):
        run_overlay(OverlayRequest(str(reference.inputs / "talk.mp4"), str(tmp_path)), Told())
    (tmp_path / "talk.mp4").write_text("no video")
    with pytest.raises(SystemExit) as stopped:
        main(["overlay", str(tmp_path / "talk.mp4"), str(reference.output)])
    assert stopped.value.code == 1
    assert "can't be used as a video" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.tmp"))


def test_tasks_of_earlier_runs_are_shown_and_damaged_tables_left_out(
    reference: Run, tmp_path: Path, pool: LocalPool, capsys: pytest.CaptureFixture[str]
) -> None:
    out, clip, target = tmp_path / "out", reference.inputs / "talk.mp4", tmp_path / "o.mp4"
    for task in ("va", "au"):
        predict(reference.features, out, pool, tasks=(task,))
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"rows": {"au": 1}}))  # as if it told of the last run only
    request = OverlayRequest(str(clip), str(out), str(target), encoding=SHARP, end=0.4)
    told = run_overlay(request, Told())
    assert (told["tasks"], told["failed"]) == (["va", "au"], {})
    damage_pages(part_uri(str(out), "au", "talk"))
    with pytest.raises(SystemExit) as stopped:
        main(["overlay", str(clip), str(out), "--output", str(target), "--end", "0.4", "--json", "-q"])
    out_text, err = capsys.readouterr()
    assert (stopped.value.code, json.loads(out_text)["tasks"]) == (1, ["va"])
    assert "run emobeam predict again" in err
    with pytest.raises(EmobeamError, match="run emobeam predict again"):
        run_overlay(replace(request, tasks=("au",)), Told())


def test_another_file_of_that_name_is_mentioned(reference: Run, tmp_path: Path) -> None:
    other = tmp_path / "talk.mp4"
    other.write_bytes((reference.inputs / "absent.mp4").read_bytes())
    told = Told()
    run_overlay(OverlayRequest(str(other), str(reference.output), str(tmp_path / "o.mp4"), encoding=SHARP), told)
    assert any("not the very file" in text for text in told.warned)


def test_a_browser_plays_it(reference: Run, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium")
    overlay(reference, "talk.mp4", tmp_path / "talk.mp4")
    (tmp_path / "page.html").write_text('<video id="clip" muted src="talk.mp4"></video>')
    script = """() => new Promise(done => {
        const clip = document.getElementById('clip');
        clip.onerror = () => done('error: ' + clip.error.message);
        const seek = () => {
            clip.onseeked = () => done([clip.videoWidth, clip.videoHeight, clip.duration, clip.currentTime]);
            clip.currentTime = 2;
        };
        if (clip.readyState >= 1) seek(); else clip.onloadedmetadata = seek;
    })"""
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        if not page.evaluate("() => document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.64001f\"')"):
            pytest.skip("this Chromium has no h264")
        width, height, seconds, at = page.evaluate(script)
        browser.close()
    with av.open(str(tmp_path / "talk.mp4")) as container:
        stream = container.streams.video[0]
        assert (width, height) == (stream.width, stream.height)
    assert (seconds, at) == (pytest.approx(3.0, abs=0.05), 2)
