"""Mistakes on the command line: exit code 2 and a sentence that helps. None of them starts a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from emobeam.emo_transforms.networks.heads.files import save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import untrained_head
from emobeam.pipelines.cli import cli, main
from emobeam.pipelines.commands.invocation import unquoted_path
from emobeam.schemas.tasks import task_named
from tests.clips import portrait
from tests.pipelines.conftest import Run
from tests.pipelines.runs import emobeam

COMMANDS = ["annotate", "extract", "predict", "submit", "inspect", "validate", "score", "tune"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait(tmp_path_factory.mktemp("clip") / "talk.mp4", frames=5)


def code_of(capsys: pytest.CaptureFixture[str], *args: Path | str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    text = CliRunner().invoke(cli, [command, "--help"]).output
    assert "Example" in text
    assert f"emobeam {command}" in text
    assert '""' not in text


def test_unknown_things_are_refused(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    out = ["--output", tmp_path / "out"]
    wrong: list[tuple[list[Path | str], str]] = [
        (["annotate", clip, *out, "--fpz", "6"], "--fpz"),
        (["annotate", clip, *out, "--task", "joy"], "joy"),
        (["annotate", clip, *out, "--fps", "fast"], "neither a number"),
        (["annotate", clip, *out, "--maps", "s4"], "s4 is not among"),
        (["annotate", clip, *out, "--", "--no_such_beam_option=1"], "Beam has no option --no_such_beam_option=1"),
        (["annotate", clip, *out, "--", "--direct_running_mode=multi_threading"], "--direct_running_mode is set"),
        (["annotate", clip, *out, "--template", clip], "--template needs --edition"),
        (["annotate", clip, *out, "--task", "emi", "--edition", "9"], "ABAW edition 9 has no task emi"),
        (["annotate", clip, *out, "--crops-fps", "6"], "add --crops"),
        (
            ["annotate", clip, *out, "--runner", "flink"],
            "--runner flink needs --flink-master HOST:8081, or --job-endpoint",
        ),
        (["annotate", clip, *out, "--store", "scores"], "a classifier gives scores (emobeam models lists"),
        (["annotate", clip, *out, "--store", "crops"], "then predict from FEATURES"),
        (["annotate", clip, *out, "--head", tmp_path / "nowhere"], "not a head folder"),
        (["annotate", clip, *out, "--truth", tmp_path / "nowhere"], "--truth"),
        (["annotate", clip, *out, "--backbone", "resnet_of_dreams"], "timm has no such model"),
        (["annotate", clip, *out, "--backbone-weights", tmp_path / "w.safetensors"], "no such file"),
        (["annotate", tmp_path / "no" / "*.mp4", *out], "*.mp4"),
        (["extract", clip, "--output", "memory://features"], "one process only"),
        (["predict", tmp_path / "nowhere", *out], "not a feature cache"),
        (["inspect", tmp_path / "nowhere"], "no such file or folder"),
        (["submit", tmp_path, "--task", "au", "--edition", "8"], "predictions"),
    ]
    for args, text in wrong:
        code, error = code_of(capsys, *args)
        assert code == 2, (args, error)
        assert text in error, (args, error)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.parquet"))


def test_two_inputs_with_one_id(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    for name in ("talk.mp4", "talk.mov"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    code, error = code_of(capsys, "extract", tmp_path, "--output", tmp_path / "features")
    assert code == 2
    assert "talk.mp4" in error
    assert "talk.mov" in error


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for the superuser")
def test_an_unreadable_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    code, error = code_of(capsys, "extract", tmp_path / "closed", "--output", tmp_path / "features")
    assert code == 2
    assert "closed" in error


def test_an_output_that_is_a_file(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I was here first")
    code, error = code_of(capsys, "extract", clip, "--output", tmp_path / "out")
    assert code == 2
    assert str(tmp_path / "out") in error
    assert (tmp_path / "out").read_text() == "I was here first"


RANDOM = ("--backbone-weights", "untrained")
"""Of the reference's backbone."""


def test_a_cache_of_other_settings(capsys: pytest.CaptureFixture[str], reference: Run) -> None:
    code, error = code_of(capsys, "extract", reference.inputs, "--output", reference.features, "--fps", "2", *RANDOM)
    assert code == 2
    assert "sampling.fps: 6.0 there, 2.0 now" in error
    code, error = code_of(
        capsys, "extract", reference.inputs, "--output", reference.features, "--backbone", "mobilenetv4_conv_small_050"
    )
    assert code == 2
    assert "mobilenetv4_conv_small_050" in error


def test_heads_that_do_not_fit(capsys: pytest.CaptureFixture[str], reference: Run, tmp_path: Path) -> None:
    shapes = {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}
    save_head(untrained_head("au", ["AU1"], "frame", "sigmoid", "f00dfeed", shapes), str(tmp_path / "other"))
    code, error = code_of(
        capsys, "predict", reference.features, "--head", tmp_path / "other", "--output", tmp_path / "out"
    )
    assert code == 2
    assert "f00dfeed" in error
    assert "9cd2992f457ef166" in error or len(error) > 40


@pytest.mark.usefixtures("in_pool")
def test_full_disk(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file size limit stands in for a full disk; it stops the run at once and leaves no half file."""
    assert subprocess.run(emobeam("models", "prepare"), capture_output=True, check=False).returncode == 0
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *emobeam("extract", clip, "--output", tmp_path / "features")],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # half of it is kept, and breaks whoever reads it
    )
    assert done.returncode == 1, done.stderr
    assert "can't be written" in done.stderr
    assert "while running" not in done.stderr
    assert not list((tmp_path / "features" / "shards").iterdir())
    code, error = code_of(capsys, "extract", clip, "--output", tmp_path / "features", "--quiet")
    assert code == 0, error
    assert len(list((tmp_path / "features" / "shards").glob("*.parquet"))) == 1


def test_help_is_fast_to_import() -> None:
    heavy = ("torch", "apache_beam", "av", "timm", "numba")
    code = f"import sys, emobeam.pipelines.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_who_and_what_stage_2_is_asked_for_is_known_before_stage_1(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path
) -> None:
    table, templates = tmp_path / "t.csv", [tmp_path / f"{task}.txt" for task in ("au", "va")]
    table.write_text(f"video;path;subject\ntalk;{clip};Right\n")
    for template in templates:
        template.write_text(f"{task_named(template.stem).form.header}\ntalk/00001.jpg,\n")
    out, tasks = ["--output", tmp_path / "out"], [*("--task", "au", "--task", "expr", "--head", "untrained")]
    code, said = code_of(capsys, "annotate", table, *out)
    assert (code, "unknown subject 'Right': left and right are known;" in said, "did you mean 'right'?" in said) == (
        2, True, True,
    )  # fmt: skip
    asked = ["annotate", clip, *out, *tasks, "--edition", "8", "--template", templates[0]]
    code, said = code_of(capsys, *asked)
    hint = "name a --template for each, or a folder of them; or leave it out, and run emobeam submit"
    assert (code, hint in said) == (2, True)
    code, said = code_of(capsys, *asked, "--template", templates[1])
    assert (code, "is of task expr; name one file of it. There are several tasks" in said) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_path_with_blanks_and_without_quotes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "8th ABAW Annotations").mkdir()
    monkeypatch.chdir(tmp_path)
    hint = "is 8th ABAW Annotations meant? A path with blanks has to be quoted: '8th ABAW Annotations'"
    for words in (
        "score --task au --predictions out --truth 8th ABAW Annotations",
        "extract 8th ABAW Annotations --output f",
    ):
        code, said = code_of(capsys, *words.split())
        assert (code, hint in said) == (2, True), words
    assert "meant?" not in code_of(capsys, "extract", "nowhere", "--output", "f")[1]


def test_many_words_are_not_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1,500 words of a shell's pattern the command took seconds to end."""
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(path) or exists(path))
    assert unquoted_path(["clip.mp4"] * 1500) == ""
    assert unquoted_path(["clip.mp4"] * 150) == ""
    assert len(asked) < 150 * 8
    assert unquoted_path(["clip.mp4", "a", "b"]).startswith("is a b meant?")


def test_a_reader_that_leaves_changes_no_exit_code(tmp_path: Path) -> None:
    """``emobeam ... | head -2`` ended with exit code 1."""
    code = (
        "import sys, time; from emobeam.pipelines.commands.invocation import outlive_readers; outlive_readers()\n"
        "for number in range(20_000): print('line', number)\n"
        "open(sys.argv[1], 'w').close(); sys.exit(3)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "done")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (3, "")
    assert (tmp_path / "done").exists()
