"""What the documentation shows works: commands are understood and run, Python runs, links lead somewhere."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from emobeam.pipelines.cli import cli
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from tests.docs.pages import BLOCKS, COMMANDS, PAGES, ROOT, Block, Command, commands_in, name_of, python_in
from tests.docs.sandbox import emobeam, fill
from tests.pipelines.runs import working_in

NOT_RUN = {
    r"(gs|s3)://": "needs an object store: tests/pipelines/stages/test_object_stores.py",
    r"--runner (flink|spark|dataflow)": "needs a cluster: tests/engines",
    r"emobeam models fetch|--backbone-weights \S+_va_mtl": "needs published weights: tests/pipelines/test_models.py",
    r"--backbone-weights timm\b": "timm fetches its own weights",
    r"--video day1/talk": "two clips of one name would stand in the way of other pages: tests of overlay",
    r"--start 60": "needs more than a minute of video: tests of overlay",
    r"emobeam models convert": "needs a published model: tests/pipelines/test_models.py",
    r"emobeam models pack": "follows commands that aren't run: tests/emo_transforms/networks/test_packing.py",
    r"emobeam (train|compare) ": "trains for minutes: tests/pipelines/training/test_train.py, test_compare.py",
    r"emobeam pretrain ": "needs AffectNet: tests/pipelines/training/test_pretrain.py",
    r"--backbone-weights affectnet-mnv4/": "follows a command that isn't run",
    r"100000|dataset/": "needs a data set: tests/benchmarks",
    r"--crops people": "needs a people folder: tests/pipelines/stages/test_people.py",
    r"emobeam (render|pseudo-label) |material|packed/": "needs ICT-FaceKit and photographs: docs/weights.md",
}
"""Commands that are only parsed here: expression, and why."""

ENDS: dict[str, int] = {}
"""Commands that end with another exit code than 0, since that is what they show: expression, and code."""

ELSEWHERE = dict.fromkeys(("docs/python.md", "docs/export.md"), "tests/emobeam/test_docs_python.py")
"""Pages whose examples have a test of their own."""


def why_not_run(command: Command) -> str:
    """Why a command is only parsed; empty where it runs."""
    return next((why for expression, why in NOT_RUN.items() if re.search(expression, command.text)), "")


def test_pages_are_read_as_people_read_them() -> None:
    text = (
        "emobeam turns videos into tables.\n\n    emobeam annotate a b.mp4 \\\n        --output out/  # a note\n\n"
        "```sh\n$ X=1 .venv/bin/emobeam inspect 'a b' | head\nls\n```\n- `emobeam score`\n\n"
        "```text\nemobeam no command\n```\n\n```python\nx = 1\n\ny = 2\n```\n\n```python\nz = 3\n```\n"
    )
    assert [(each.line, each.words) for each in commands_in("page", text)] == [
        (3, ("annotate", "a", "b.mp4", "--output", "out/")),
        (7, ("inspect", "a b")),
    ]
    assert [(each.line, each.code) for each in python_in("page", text)] == [(17, "x = 1\n\ny = 2\n"), (23, "z = 3\n")]


def test_the_documentation_has_commands_and_python() -> None:
    assert len(COMMANDS) > 15
    assert len(BLOCKS) > 5
    assert {"README.md", "docs/training.md"} <= {command.page for command in COMMANDS}


def parse(words: list[str]) -> None:
    """Parses a command line without running it.

    Raises:
        click.UsageError: there is no such command or option, or a value is none.
    """
    command: click.Command = cli
    context = cli.make_context("emobeam", words)
    while isinstance(command, click.Group):
        if not context._protected_args and command.invoke_without_command:
            return
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        assert name is not None
        command = found
        context = found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_understood(command: Command, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emobeam.runners.beam_options import check_beam_args

    monkeypatch.chdir(sandbox)
    words = list(command.words)
    split = words.index("--") if "--" in words else len(words)
    try:
        parse(words[:split])
    except click.exceptions.Exit:  # --help, --version
        pass
    except click.UsageError as error:
        if "does not exist" not in error.message:
            pytest.fail(f"{command.text}\n{error.format_message()}")
    if not re.search(r"--runner (flink|spark|dataflow)", command.text):
        check_beam_args(words[split + 1 :])


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The material, and one pool of workers for all that runs: starting one takes seconds, and so does OpenVINO.

    The workers' current folder is the one they were started in, so all pages use this one, see ``workplace``.
    """
    folder = tmp_path_factory.mktemp("sandbox")
    with (
        pytest.MonkeyPatch.context() as patch,
        LocalPool(LocalConfig(workers=1, threads=1)) as pool,
        working_in(pool),
    ):
        patch.chdir(folder)
        patch.setattr("emobeam.emo_transforms.networks.engines._installed", lambda: False)
        fill(folder)
        yield folder


@pytest.fixture(scope="module")
def workplace(sandbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder in which a page's examples run one after the other; each page finds it as it was."""
    pristine = tmp_path_factory.mktemp("pristine")
    shutil.copytree(sandbox, pristine, dirs_exist_ok=True)
    at = [""]

    def enter(page: str) -> Path:
        if at[0] not in ("", page):
            for entry in sandbox.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            shutil.copytree(pristine, sandbox, dirs_exist_ok=True)
        at[0] = page
        return sandbox

    return enter


RUN = [command for command in COMMANDS if command.page not in ELSEWHERE and not why_not_run(command)]
EXAMPLES = sorted(
    [*RUN, *(block for block in BLOCKS if block.page not in ELSEWHERE)],
    key=lambda example: (example.page, example.line),
)
"""In the order of each page: what follows may need what stands before."""

FIRST_READ = "README.md"
"""Its examples run every time."""


NAMES: dict[str, dict[str, object]] = {}
"""What the Python of each page has defined so far."""


@pytest.mark.parametrize(
    "example",
    [pytest.param(each, marks=() if each.page == FIRST_READ else pytest.mark.thorough) for each in EXAMPLES],
    ids=str,
)
def test_an_example_works(
    example: Command | Block,
    workplace: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = workplace(example.page)
    monkeypatch.chdir(folder)
    if isinstance(example, Command):
        run(example, folder, capsys)
        return
    # Blocks of a page follow each other as in a notebook: they share folder and names.
    code = compile("\n" * (example.line - 1) + example.code, str(ROOT / example.page), "exec")
    exec(code, NAMES.setdefault(example.page, {"__name__": "page"}))


def run(command: Command, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs a command: it succeeds, and what it says that it writes is new."""
    began = time.time()
    code = emobeam(*command.words)
    told = capsys.readouterr().err
    # Lines of a page that are alternatives: each may be a first run.
    if re.search("was made with other settings|than this run's; mixed", told):
        output = folder / command.words[command.words.index("--output") + 1]
        output.rename(folder / "aside")
        code = emobeam(*command.words)
        told = capsys.readouterr().err
        fresh = newest(output)
        shutil.rmtree(output)
        (folder / "aside").rename(output)
    else:
        fresh = min((newest(folder / place) for place in written_by(command)), default=began)
    expected = next((code for expression, code in ENDS.items() if re.search(expression, command.text)), 0)
    assert code == expected, f"{command.text}\n{told[-2000:]}"
    assert fresh >= began - 2, f"{command.text}: wrote no {', '.join(written_by(command))}"


def written_by(command: Command) -> list[str]:
    """Files and folders that a command line says or implies it writes."""
    name, words = command.words[0], command.words
    if "--help" in words:
        return []
    if "--output" in words:
        return [words[words.index("--output") + 1]]
    implied = {"report": (1, "report.html"), "overlay": (2, "overlay"), "submit": (1, "submission")}
    if name in implied:
        place, part = implied[name]
        return [f"{words[place]}/{part}"]
    return []


def newest(path: Path) -> float:
    """When a file, or any file in a folder, was last written, in s since 1970; 0 where there is none."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def test_more_commands_run_than_are_only_parsed() -> None:
    # One page is a recipe of hours from its first command to its last.
    commands = [each for each in COMMANDS if each.page != "docs/weights.md"]
    run = [each for each in RUN if each.page != "docs/weights.md"]
    assert len(run) > len(commands) / 2, [str(each) for each in commands if why_not_run(each)]


def test_pages_with_a_test_of_their_own_have_it() -> None:
    for page, test in ELSEWHERE.items():
        if (ROOT / page).exists():
            assert Path(page).name in (ROOT / test).read_text(), f"{test} doesn't mention {page}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_and_sections_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text)
    for target in targets:
        path, _, section = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if section:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert section in {anchor(title) for title in titles}, target


def anchor(title: str) -> str:
    """The name that a forge gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"test", "demo"} <= targets
    for target in re.findall(r"(?:^    |`)make ([a-z][\w-]*)", text, flags=re.MULTILINE):
        assert target in targets, target
    for module in re.findall(r"python -m ((?:tests|runners|pipelines)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
