from __future__ import annotations

from pathlib import Path

import pytest

from emobeam.emo_transforms.abaw.submissions.validation import ValidationReport, validate
from emobeam.pipelines.challenge.validate import print_validation, run_validate
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.abaw.examples import AU_HEADER, EMI_HEADER, VA_HEADER

VA, AU, MTL, EMI, AHV, VD = (TASKS[name] for name in ("va", "au", "mtl", "emi", "ah-video", "vd"))
KEYS = ["a/00001.jpg", "a/00002.jpg", "b_left/00001.jpg"]
GOOD = [f"{key},0.5,-0.25" for key in KEYS]


def check(tmp_path: Path, lines: list[str], template: list[str] | None = None, end: str = "\n") -> ValidationReport:
    """Validates a VA submission of edition 8."""
    file = tmp_path / "p.txt"
    file.write_bytes("\n".join(lines).encode() + end.encode())
    (tmp_path / "t.txt").write_text("".join(f"{key},\n" for key in template or []))
    return validate(str(file), VA, 8, str(tmp_path / "t.txt") if template else "")


def texts(report: ValidationReport) -> list[tuple[int | None, str]]:
    return [(finding.line, finding.text) for finding in report.errors]


def test_good_files(tmp_path: Path) -> None:
    for template in (None, KEYS):
        report = check(tmp_path, [VA_HEADER, *GOOD], template)
        assert (report.ok, report.errors, report.warnings, report.rows, report.files) == (True, [], [], 3, 1)


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        (["image_location,valence", *GOOD], 1, "expected the header 'image_location,valence,arousal'"),
        ([VA_HEADER, *GOOD, "a/00003.jpg,0.5"], 5, "expected 2 values (valence, arousal), found 1 value"),
        ([VA_HEADER, *GOOD, "a/00003.jpg,"], 5, "found no value"),
        ([VA_HEADER, *GOOD, "a/00003.jpg,0.5,nan"], 5, "arousal: 'nan' is not a number"),
        ([VA_HEADER, *GOOD, "a/00003.jpg,0.5,1_0"], 5, "arousal: '1_0' is not a number"),
        ([VA_HEADER, *GOOD, "a/00003.jpg,0.5,1.01"], 5, "arousal: '1.01' is outside -1 to 1"),
        ([VA_HEADER, *GOOD, "a/00003.jpg,-5,-5"], 5, "marks rows without label, and may not be submitted"),
        ([VA_HEADER, *GOOD, "a,0.5,0.5"], 5, "'a' is no key of task va"),
        ([VA_HEADER, *GOOD[:2], "", GOOD[2]], 4, "is empty"),
        ([VA_HEADER, *GOOD, GOOD[0]], 5, "'a/00001.jpg' stands on line 2 already"),
        ([VA_HEADER], None, "holds no rows"),
    ],
)
def test_errors_within_a_file(tmp_path: Path, lines: list[str], line: int | None, message: str) -> None:
    report = check(tmp_path, lines)
    assert not report.ok
    (found,) = texts(report)
    assert found[0] == line
    assert message in found[1]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (GOOD[:2], [(None, "'b_left/00001.jpg' is missing (line 3 of the template)")]),
        ([GOOD[0], GOOD[2]], [(None, "'a/00002.jpg' is missing (line 2 of the template)")]),
        ([*GOOD, "a/00003.jpg,0,0"], [(5, "'a/00003.jpg' isn't in the template")]),
        (
            [GOOD[1], GOOD[0], GOOD[2]],
            [(2, "the order differs from here on: 'a/00002.jpg', where line 1 of the template has 'a/00001.jpg'")],
        ),
        (
            [GOOD[2], *GOOD[:2]],
            [(2, "the order differs from here on: 'b_left/00001.jpg', where line 1 of the template has 'a/00001.jpg'")],
        ),
        (["a/1.jpg,0,0", *GOOD[1:]], [(2, "'a/1.jpg' has to be written 'a/00001.jpg', as in the template")]),
        ([GOOD[2]], [(None, "'a/00001.jpg' is missing (line 1 of the template), all 2 rows of 'a' are")]),
        (
            [*GOOD, "c/00001.jpg,0,0", "c/00002.jpg,0,0"],
            [(5, "'c/00001.jpg' isn't in the template, nor are 1 more rows of 'c'")],
        ),
        (["c/00001.jpg,0,0", *GOOD[1:]], [
            (None, "'a/00001.jpg' is missing (line 1 of the template)"),
            (2, "'c/00001.jpg' isn't in the template"),
        ]),
    ],
)  # fmt: skip
def test_against_a_template(tmp_path: Path, rows: list[str], expected: list[tuple[int | None, str]]) -> None:
    assert texts(check(tmp_path, [VA_HEADER, *rows], KEYS)) == expected


def test_spelling_is_the_templates(tmp_path: Path) -> None:
    keys = ["a/1.jpg", "a/2.jpg"]
    assert check(tmp_path, [VA_HEADER, "a/1.jpg,0,0", "a/2.jpg,0,0"], keys).ok
    report = check(tmp_path, [VA_HEADER, "a/00001.jpg,0,0", "a/2.jpg,0,0"], keys)
    assert texts(report) == [(2, "'a/00001.jpg' has to be written 'a/1.jpg', as in the template")]


def test_warnings(tmp_path: Path) -> None:
    report = check(
        tmp_path, ["\ufeff" + VA_HEADER, "a/00002.jpg,0, 0", "b/00001.jpg,0,0", "a/00001.jpg,0,0"], end="\r\n\n"
    )
    assert report.ok
    found = [(finding.line, finding.text) for finding in report.warnings]
    assert [line for line, _ in found] == [1, 1, 2, 5, 4, 4]
    words = ["byte-order mark", "CRLF", "blanks around", "end of the file", "stand apart", "comes after a later frame"]
    assert all(word in text for word, (_, text) in zip(words, found, strict=True))
    skipped = check(tmp_path, [VA_HEADER, "a/00001.jpg,0,0", "a/00004.jpg,0,0"]).warnings
    assert [finding.text for finding in skipped] == ["frames of 'a' have no row: 2, for example 'a/00002.jpg'"]


def test_all_findings_are_counted_a_few_are_listed(tmp_path: Path) -> None:
    rows = [f"a/{number:05d}.jpg,2,2" for number in range(1, 101)] + [
        f"a/{number:05d}.jpg,x,2" for number in range(101, 111)
    ]
    report = check(tmp_path, [VA_HEADER, *rows])
    assert report.error_count == 110
    assert [finding.line for finding in report.errors] == [2, 3, 4, 5, 6, 102, 103, 104, 105, 106]


def test_integers_have_to_be_integers(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    for field, good in (("1", True), ("1.0", False), ("+1", False), ("2", False), ("1e0", False)):
        file.write_text(f"{AU_HEADER}\na/00001.jpg{',0' * 11},{field}\n")
        assert validate(str(file), AU, 8).ok is good
    file.write_text(f"image,valence,arousal,expression,aus\na/00007.jpg,0.5,0.5,8{',0' * 12}\n")
    assert texts(validate(str(file), MTL, 7)) == [(2, "expression: '8' is outside 0 to 7")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0.2688,0.7312,1", ""),
        ("0.26880001,0.7312,1", "p0 + p1 is 1.00000001, it has to be exactly 1.0"),
        ("0.1,0.8,1", "p0 + p1 is 0.9"),
        ("-0.5,1.5,1", "p0: '-0.5' is outside 0 to 1"),
        ("0.5,0.5,0.5", "AH: '0.5' has to be an integer"),
    ],
)
def test_probabilities(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "with_probabilities").mkdir()
    file = tmp_path / "with_probabilities" / "trial-2.txt"
    file.write_text(f"Videos/1/a.mp4,{row}\n")
    for uri in (file, file.parent, tmp_path):
        report = validate(str(uri), AHV, 10)
        assert [text.startswith(message) for _, text in texts(report)] == ([True] if message else [])


def test_one_file_per_video(tmp_path: Path) -> None:
    folder, names = tmp_path / "predictions", tmp_path / "names.txt"
    folder.mkdir()
    (folder / "a.txt").write_text("valence,arousal\n0,0\n0,0\n")
    (folder / "b.txt").write_text("valence,arousal\n0,0\n")
    names.write_text("a\nc\n")
    assert validate(str(tmp_path), VA, 3).ok
    found = validate(str(folder), VA, 3, str(names))
    assert [finding.text for finding in found.errors] == [
        "no file for 'c', which the template names",
        "'b.txt' isn't among the template's videos",
    ]
    assert validate(str(folder / "a.txt"), VA, 3, str(names)).ok
    examples = tmp_path / "examples"
    examples.mkdir()
    (examples / "a.txt").write_text("valence,arousal\n0,0\n0,0\n0,0\n")
    (examples / "b.txt").write_text("valence,arousal\n0,0\n")
    found = validate(str(folder), VA, 3, str(examples))
    assert [(Path(finding.file).name, finding.text) for finding in found.errors] == [
        ("a.txt", "has 2 rows, the template's file has 3")
    ]
    (tmp_path / "vd.csv").write_text("Frame_Number,Predicted_Label\n1,0\n3,1\n2,0\n2,0\n")
    found = validate(str(tmp_path / "vd.csv"), VD, 9)
    assert texts(found) == [(5, "'frame 2' stands on line 4 already"), (4, "frame 2 comes after a later one")]


def test_clips(tmp_path: Path) -> None:
    file, template = tmp_path / "p.csv", tmp_path / "t.csv"
    file.write_text(f"{EMI_HEADER}\n00012{',0.5' * 6}\n00013{',0.5' * 6}\n12{',0.5' * 6}\n")
    assert validate(str(file), EMI, 8).ok
    template.write_text("00012\n00013\n00014\n")
    assert texts(validate(str(file), EMI, 8, str(template))) == [
        (None, "'00014' is missing (line 3 of the template)"),
        (4, "'12' isn't in the template"),
    ]


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(f"{VA_HEADER}\n{GOOD[0]}\n".encode() + b"a/00002.jpg,\xff\n")
    (finding,) = validate(str(tmp_path / "p.txt"), VA, 8).errors
    assert "p.txt, line 3: not UTF-8 text" in str(finding)


def test_what_cannot_be_validated(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such file or folder"):
        validate(str(tmp_path / "absent"), VA, 8)
    with pytest.raises(
        EmobeamError, match=r"no submission of task va, edition 3; expected predictions/<name of a video>.txt"
    ):
        validate(str(tmp_path), VA, 3)
    with pytest.raises(UsageError, match="edition 7 has no task va"):
        validate(str(tmp_path), VA, 7)


def test_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("\n".join([VA_HEADER, *GOOD]) + "\n")
    code, result = run_validate(str(tmp_path / "p.txt"), VA, 8)
    assert (code, result["ok"], result["rows"]) == (0, True, 3)
    (tmp_path / "p.txt").write_text("\n".join([VA_HEADER, *["a/00001.jpg,2,2"] * 9]) + "\n")
    code, result = run_validate(str(tmp_path / "p.txt"), VA, 8)
    assert (code, result["error_count"]) == (1, 17)
    print_validation(result)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"error: {tmp_path}/p.txt, line 2: valence: '2' is outside -1 to 1"
    assert out[-2] == "errors: 17 in all, the first of each kind are listed"
    assert "not valid, 17 errors for task va of ABAW 8, 9 rows; no template given" in out[-1]
