"""Nothing but our own lines on standard error, and commands that explain themselves alike."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from emobeam.pipelines.cli import cli
from emobeam.pipelines.commands.help_text import SectionedCommand
from tests.clips import portrait
from tests.emo_transforms.training.data import make_data, some_clips
from tests.pipelines.runs import emobeam

SAYS_NOTHING_ELSE = {"inspect", "models list", "models show", "models export", "score", "validate"}
"""Commands whose only result is what they print: --quiet would leave nothing of them."""

OURS = [
    r"warning: .+",
    r"(probe|extract|predict|join labels|train seed \d+|overlay|report): \d+/\d+ \w+.* elapsed(, .+)?",
    r"\d+ videos?, \d+:\d\d of video, \d+ frames? to look at; .+",
    r"recipe [\w+]+: .+",
    r"seed \d+(, epoch \d+)?: .+",
    r"\d+ videos? to train on, \d+ held out to select and tune .+",
    r"\d+ .*(labelled|labels|row|video|frame).*",
]


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command by the words that call it."""
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from commands(below, (*path, name))
        if not path:
            return
    if path:
        yield path, command


def _id(value: object) -> str:
    return "-".join(value) if isinstance(value, tuple) else ""


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=_id)
def test_help_ends_in_a_real_example(path: tuple[str, ...], command: click.Command) -> None:
    shown = CliRunner().invoke(cli, [*path, "--help"])
    assert shown.exit_code == 0
    lines = shown.output.rstrip().splitlines()
    start = max(index for index, line in enumerate(lines) if line.strip() in ("Example:", "Examples:"))
    examples = [line.strip() for line in lines[start + 1 :]]
    assert examples
    assert all(line.startswith("emobeam ") for line in examples)
    assert any(line.startswith(f"emobeam {' '.join(path)}") for line in examples)
    assert any("Options:" in line for line in lines[:start]), "the examples come last"
    assert not re.search(r"\b(INTEGER|FLOAT|RANGE)\b", shown.output), "words of programmers"
    for line in examples:
        _check_options(line)


@pytest.mark.parametrize("name", ["annotate", "extract", "predict", "plan", "train", "compare", "pretrain", "score"])
def test_many_options_stand_under_titles(name: str) -> None:
    """Each option once, few of them without a title, and the same ones as click knows."""
    command = cli.commands[name]
    assert isinstance(command, SectionedCommand)
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    before, _, rest = shown.partition("\nOptions:\n")
    assert before.startswith("Usage: ")
    blocks = {block.partition(":\n")[0]: block for block in f"Options:\n{rest}".split("\n\n")}
    listed = {title: re.findall(r"^  (?:-\w, )?(--[\w-]+)", block, re.M) for title, block in blocks.items()}
    every = [option for names in listed.values() for option in names]
    known = {param.opts[0] if param.opts[0].startswith("--") else param.opts[1] for param in command.get_params(
        click.Context(command)) if isinstance(param, click.Option)}  # fmt: skip
    assert sorted(every) == sorted(known)
    assert len(listed["Options"]) <= 6
    assert {"--json", "--verbose", "--help"} <= set(listed["Messages"])
    if name == "annotate":
        assert list(listed)[:4] == ["Options", "Videos", "Folders of cropped faces", "Faces"]
        assert "--flink-master" in listed["Flink and Spark"]
        assert max(len(names) for names in listed.values()) <= 9


@pytest.mark.slow
def test_nothing_of_beam_when_verbose(tmp_path: Path) -> None:
    """The launcher and a worker both import Beam, which complains about BigQuery."""
    clip = portrait(tmp_path / "talk.mp4", frames=5)
    args = emobeam("annotate", clip, "--output", tmp_path / "out", "--workers", "1", "--verbose")
    done = subprocess.run(args, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "apitools" not in done.stderr
    assert "bigquery" not in done.stderr.lower()
    assert done.stderr


def _check_options(line: str) -> None:
    """Every option of an example is one of its command."""
    words = re.sub(r'"[^"]*"', "X", line).partition("#")[0].partition(" -- ")[0].split()[1:]
    command: click.Command = cli
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    known = {name for option in command.params for name in [*option.opts, *option.secondary_opts]} | {"--help"}
    assert {word for word in words if word.startswith("-") and not word[1:2].isdigit()} <= known, line


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=_id)
def test_every_command_has_the_same_switches(path: tuple[str, ...], command: click.Command) -> None:
    if isinstance(command, click.Group):
        return
    names = {name for option in command.params for name in option.opts}
    assert {"--json", "-v", "--verbose"} <= names
    if " ".join(path) not in SAYS_NOTHING_ELSE:
        assert "--quiet" in names


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, and a small cache with labels to train on."""
    folder = tmp_path_factory.mktemp("quiet")
    portrait(folder / "talk.mp4", frames=20)
    make_data(folder, "au", some_clips(6, 40))
    return folder


def call(*args: Path | str) -> tuple[str, list[str]]:
    """Standard output, and what of standard error is not ours."""
    done = subprocess.run(emobeam(*args), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    strange = [line for line in done.stderr.splitlines() if not any(re.fullmatch(own, line) for own in OURS)]
    return done.stdout, strange


@pytest.mark.slow
@pytest.mark.timeout(1800)  # five processes, each of which loads torch or Beam
def test_standard_error_has_our_own_lines_alone(place: Path) -> None:
    out, head = place / "out", place / "head"
    features, labels = (next(place.glob(name)) for name in ("feat*", "label*"))
    train = [
        "train",
        features,
        "--task",
        "au",
        "--labels",
        labels,
        "--output",
        head,
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    train += ["--set", "final_start=random", "--set", "batch=8", "--levels", "1", "--threads", "1", "--holdout", "0.3"]
    for args in (
        ["annotate", place / "talk.mp4", "--output", out, "--task", "au", "--workers", "1", "--edition", "8"],
        ["overlay", place / "talk.mp4", out],
        train,
        ["models"],
    ):
        said, strange = call(*args)
        assert not strange, (args, strange)
        assert said.strip(), args

    done = subprocess.run(
        emobeam("annotate", place / "talk.mp4", "--output", out, "--workers", "1", "--quiet", "--json"),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines()), done.stderr
    told = json.loads(done.stdout)
    assert told["videos"] == {"ok": 1}
    assert told["next"] == {"look at it": f"emobeam report {out}"}
