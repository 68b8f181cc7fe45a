from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.abaw.labels.label_statistics import label_statistics, labelled_tasks
from emobeam.pipelines.inspect.labels import describe_labels, print_labels
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.abaw.examples import SHARED


def aff_wild2(root: Path) -> str:
    """VA of three people in two videos and AU of one, all of it countable by hand."""
    rows = {
        "VA_Estimation_Challenge/Train_Set/1-25-640x360_left": ["-1,1", "0,0.3", "-5,-5", "1,-1"],
        "VA_Estimation_Challenge/Train_Set/1-25-640x360_right": ["0.05,0.95"],
        "VA_Estimation_Challenge/Train_Set/2-50-640x360-1": ["-5,-5"] * 90,
        "VA_Estimation_Challenge/Validation_Set/video45_1": ["0,0"],
        "AU_Detection_Challenge/Train_Set/2-50-640x360-1": [f"1{',0' * 9},1,1", f"1{',0' * 11}", f"-1{',-1' * 11}"],
    }  # fmt: skip
    for name, lines in rows.items():
        header = "valence,arousal" if name.startswith("VA") else ",".join(TASKS["au"].outputs)
        (root / f"{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.txt").write_text("\n".join([header, *lines]) + "\n")
    return str(root)


def test_aff_wild2(tmp_path: Path) -> None:
    uri = aff_wild2(tmp_path)
    assert [task.name for task in labelled_tasks(uri)] == ["va", "au"]
    train, validation = label_statistics(uri, TASKS["va"], warn=pytest.fail).values()
    assert {key: train[key] for key in ("names", "videos", "subjects", "samples")} == {
        "names": 3, "videos": 2, "subjects": 3, "samples": 95,
    }  # fmt: skip
    assert train["hours"] == train["hours_known"] == round((5 / 25 + 90 / 50) / 3600, 4)
    assert validation["hours"] is None
    va = train["groups"]["va"]
    assert va["valid"] == 4
    valid = np.array([[-1, 1], [0, 0.3], [1, -1], [0.05, 0.95]])
    for column, name in enumerate(("valence", "arousal")):
        assert va["mean"][name] == pytest.approx(valid[:, column].mean(), abs=1e-6)
        assert va["std"][name] == pytest.approx(valid[:, column].std(), abs=1e-6)
        expected, edges = np.histogram(np.minimum(valid[:, column] + 1e-9, 1), bins=20, range=(-1, 1))
        assert va["histogram"][name] == expected.tolist()
        np.testing.assert_allclose(va["edges"], edges, atol=1e-6)
    assert np.sum(va["joint"], 1).tolist() == va["histogram"]["valence"]
    assert np.sum(va["joint"], 0).tolist() == va["histogram"]["arousal"]
    assert va["joint"][0][19] == va["joint"][19][0] == va["joint"][10][13] == va["joint"][10][19] == 1
    au = label_statistics(uri, TASKS["au"], warn=pytest.fail)["train"]["groups"]["au"]
    assert (au["valid"], au["active"]["AU1"], au["active"]["AU25"], au["active"]["AU2"]) == (2, 2, 1, 0)


def test_markers_are_counted_by_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = ["0"] * 12
    lines = [",".join(row), ",".join([*row[:11], "-1"]), ",".join(["-1", *row[1:11], "-1"]), ",".join(["-1"] * 12)]
    (tmp_path / "a.txt").write_text("\n".join([",".join(TASKS["au"].outputs), *lines]) + "\n")
    au = label_statistics(str(tmp_path), TASKS["au"], warn=pytest.fail)[""]["groups"]["au"]
    assert (au["valid"], au["unlabelled"]["rows"], au["unlabelled"]["marker"]) == (1, 3, -1)
    assert {n: c for n, c in au["unlabelled"]["columns"].items() if c > 1} == {"AU1": 2, "AU26": 3}
    print_labels(describe_labels(str(tmp_path), "au"))
    lines = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["left out au", "3"] in lines
    assert ["  -1 in AU26", "3"] in lines
    (tmp_path / "a.txt").write_text("\n".join([",".join(TASKS["au"].outputs), ",".join(["-1"] * 12)]) + "\n")
    print_labels(describe_labels(str(tmp_path), "au"))
    assert "-1 in all outputs" in capsys.readouterr().out


def test_partitions_without_a_valid_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("valence,arousal\n-5,-5\n")
    va = label_statistics(str(tmp_path), TASKS["va"], warn=pytest.fail)[""]["groups"]["va"]
    assert (va["valid"], va["mean"]["valence"], sum(va["histogram"]["arousal"])) == (0, None, 0)
    print_labels(describe_labels(str(tmp_path)))


def test_description_is_json_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = describe_labels(aff_wild2(tmp_path))
    assert json.loads(json.dumps(description)) == description
    assert (description["kind"], list(description["tasks"])) == ("labels", ["va", "au"])
    print_labels(description)
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if line.split()[:1] == ["AU25"]] == [["AU25", "1", "50.0", "%"]]
    assert [line.split() for line in out.splitlines() if line.startswith("samples")] == [
        ["samples", "95", "1"],
        ["samples", "3"],
    ]
    with pytest.raises(EmobeamError, match=r"no annotations of va, expr, .* found"):
        describe_labels(str(empty(tmp_path)))


def empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared example files are not beside the repository")
@pytest.mark.parametrize(
    ("root", "tasks"),
    [
        ("8th_ABAW_Annotations", ["va", "expr", "au"]),
        ("MTL_s-Aff-Wild2", ["mtl"]),
        ("EMI_Hume-Vidmimic2", ["emi"]),
        ("BAH_ABAW8", ["ah"]),
        ("BAH_ABAW10", ["ah-video"]),
        ("VD_DVD", ["vd"]),
    ],
)
def test_shared_annotations(root: str, tasks: list[str]) -> None:
    description = describe_labels(str(SHARED / "annotations" / root))
    assert list(description["tasks"]) == tasks
    for name, parts in description["tasks"].items():
        for statistics in parts.values():
            assert statistics["samples"] >= statistics["names"] >= statistics["videos"] > 0
            for group in TASKS[name].groups:
                counts = statistics["groups"][group.name]
                assert 0 < counts["valid"] <= statistics["samples"]
                if group.kind == "class":
                    assert sum(counts["counts"].values()) == counts["valid"]
    print_labels(description)
