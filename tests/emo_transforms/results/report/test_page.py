"""The page as text: what is vendored is what it says, scripts are pinned, nothing breaks out of a script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from emobeam.emo_transforms.results.report.gather import gather
from emobeam.emo_transforms.results.report.page import (
    PageData,
    VideoOnPage,
    _json_for_script,
    _percent,
    _span,
    render_page,
)
from emobeam.emo_transforms.results.report.series import distributions_of
from tests.emo_transforms.results.report.outputs import table_of, write_run, write_table

FILES = resources.files("emobeam.emo_transforms.results.report")


def rendered(folder: Path, **run: object) -> str:
    write_table(folder, "va", "a", table_of("a", "va", 2))
    write_run(folder, [{"video": "a", "duration": 2.0}], **run)
    found = gather(str(folder))
    distributions = {task.name: distributions_of(task) for task in found.tasks}
    return render_page(PageData(found, [VideoOnPage(found.videos[0])], distributions, (0, 0, 0, 0), {}, "now"))


def test_vendored_files_are_those_of_the_note() -> None:
    note = FILES.joinpath("vendor/README.md").read_text("utf-8")
    named = re.findall(r"\| `(uPlot\.[\w.]+)` \|.*`([0-9a-f]{64})`", note)
    assert len(named) == 2
    for name, digest in named:
        assert hashlib.sha256(FILES.joinpath(f"vendor/{name}").read_bytes()).hexdigest() == digest
    assert "MIT" in FILES.joinpath("vendor/uPlot-LICENSE.txt").read_text("utf-8")


def test_the_policy_names_the_one_script(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert f"script-src &#39;sha256-{digest.replace('+', '&#43;')}&#39;" in policy[1].replace("+", "&#43;")
    assert "default-src &#39;none&#39;" in policy[1]
    assert "Permission is hereby granted" in scripts[0]


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a & b", "\u2028", '"', "视频"])
def test_json_stays_inside_its_script(text: str) -> None:
    shown = str(_json_for_script({"id": text}))
    assert not set("<>&\u2028") & set(shown)
    assert json.loads(shown)["id"] == text


def test_odd_run_records_do_no_harm(tmp_path: Path) -> None:
    page = rendered(tmp_path, heads={"va": []}, warnings=["<b>w</b>"], config={"a": {"b": [1, 2]}, "none": None})
    assert "&lt;b&gt;w&lt;/b&gt;" in page
    assert "predict.a.b" in page


def test_a_page_holds_neither_control_characters_nor_secrets(tmp_path: Path) -> None:
    warnings = ["a\0b\x1b[2J", "https://ann:pa55@h/a.mp4?sig=ab12: no such file"]
    page = rendered(tmp_path, warnings=warnings, features="https://ann:pa55@h/features")
    assert not re.search("[\0-\x08\x0b-\x1f\x7f]", page)
    assert "a\\u0000b\\u001b[2J" in page
    assert "pa55" not in page
    assert "ab12" not in page


def test_numbers_for_people() -> None:
    assert [_span(value) for value in (None, 0.44, 59.6, 3723)] == ["\u2013", "0.4 s", "1:00", "1:02:03"]
    assert [_percent(value) for value in (None, 0.0, 0.004, 0.5, 0.996, 1.0)] == [
        "\u2013",
        "0 %",
        "0.4 %",
        "50 %",
        "99.6 %",
        "100 %",
    ]
