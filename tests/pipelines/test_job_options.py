"""An option of the two stages is declared once: commands, functions, types and docs are made from there."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import click
import pytest

import emobeam as eb
from emobeam import option_types
from emobeam.pipelines.cli import cli, main
from emobeam.pipelines.commands.options import SectionedOption, declared
from emobeam.pipelines.inspect.problems import extract_command
from emobeam.pipelines.job_options import JOB_OPTIONS, ONLY_PRINTED
from emobeam.pipelines.requests import extract_request
from emobeam.schemas.config import AlignConfig, DetectorConfig, ExtractConfig, OriginConfig, SamplingConfig
from emobeam.schemas.options import Option, OptionField, Section, from_options, options_of
from tests.clips import portrait
from tests.docs import option_pages

ROOT = Path(__file__).parents[2]
FUNCTIONS: dict[str, Callable[..., Any]] = {"annotate": eb.annotate, "extract": eb.extract, "predict": eb.predict}
TYPES: dict[str, Any] = {
    "annotate": option_types.AnnotateOptions,
    "extract": option_types.ExtractOptions,
    "predict": option_types.PredictOptions,
}


def options(command: str) -> dict[str, click.Option]:
    """The options of a command, but for the one that every command without it gets."""
    found = {param.name: param for param in cli.commands[command].params if isinstance(param, click.Option)}
    return {str(name): param for name, param in found.items() if param.expose_value}


def declarations() -> dict[str, list[str]]:
    """Where product code declares options, by their names: every ``Option(...)`` at a field or in a constant."""
    found = defaultdict(list)
    for folder in ("schemas", "pipelines", "runners"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.AnnAssign) and "Annotated" in ast.dump(node.annotation):
                    assert isinstance(node.target, ast.Name)
                    own = [word for call in ast.walk(node) if isinstance(call, ast.Call) for word in call.keywords]
                    names = [word.value.value for word in own if word.arg == "name"]  # type: ignore[attr-defined]
                    found[names[0] if names else node.target.id].append(f"{path.name}:{node.lineno}")
    return found


@pytest.mark.parametrize("command", JOB_OPTIONS)
def test_every_option_of_a_command_is_declared_by_a_config(command: str) -> None:
    shown, fields = options(command), {field.name: field for field in JOB_OPTIONS[command]}
    assert shown.keys() == fields.keys()
    for name, param in shown.items():
        field = fields[name]
        assert isinstance(param, SectionedOption)
        assert field.flag in param.opts
        assert (param.help or "").startswith(field.option.help)
        assert param.required == field.required
        assert param.section == field.option.section


def test_an_option_is_declared_once() -> None:
    """But for those whose meaning differs from command to command; ``device`` and ``engine`` are of both stages."""
    several = {name: places for name, places in declarations().items() if len(places) > 1}
    names = {field.name for fields in JOB_OPTIONS.values() for field in fields}
    assert names <= declarations().keys()
    assert several.keys() & names == {"output", "only", "runner", "workers", "device", "engine"}
    assert {name: len(several[name]) for name in ("output", "only", "runner", "workers", "device", "engine")} == {
        "output": 3,
        "only": 2,
        "runner": 2,
        "workers": 2,
        "device": 2,
        "engine": 2,
    }


def test_no_command_of_the_stages_declares_options_by_hand() -> None:
    source = ast.parse((ROOT / "pipelines" / "commands" / "stages.py").read_text())
    jobs = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name in JOB_OPTIONS]
    assert len(jobs) == len(JOB_OPTIONS)
    assert not [each for node in jobs for each in node.decorator_list if "click.option" in ast.unparse(each)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_same_options_with_the_same_defaults(name: str) -> None:
    shown = inspect.signature(FUNCTIONS[name]).parameters
    context = click.Context(cli.commands[name])
    own = {"inputs", "features", "output", "beam_args", "progress"}
    expected = options(name)
    assert shown.keys() - own == expected.keys() - ONLY_PRINTED - own
    for key in shown.keys() - own:
        default = expected[key].get_default(context)
        usual = None if default is None or not isinstance(default, (str, int, float, tuple)) else default
        ours = shown[key].default
        assert (",".join(ours) if isinstance(ours, tuple) else ours) in (usual, usual or "", usual or None), key
        assert f"    {key}: {(expected[key].help or '').partition('  [')[0]}" in str(FUNCTIONS[name].__doc__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_type_checkers_know_of_every_option(name: str) -> None:
    known = typing.get_type_hints(TYPES[name])
    shown = inspect.signature(FUNCTIONS[name]).parameters
    assert known.keys() == shown.keys() - {"inputs", "output", "beam_args", "progress"} - (
        {"features"} if name == "predict" else set()
    )
    # What is a default is a value of the type.
    kinds = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
    for key, kind in known.items():
        default, plain = shown[key].default, kinds.get(kind)
        assert plain is None or isinstance(default, plain), key


def test_what_is_written_of_the_options_is_what_they_are() -> None:
    """``make options`` writes both files anew."""
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == option_pages.option_page()
    assert (ROOT / "emobeam" / "option_types.py").read_text(encoding="utf-8") == option_pages.option_types()


def test_tables_on_other_pages_tell_the_same_defaults() -> None:
    known = {field.flag: field for fields in JOB_OPTIONS.values() for field in fields}
    told = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        for flag, default in re.findall(r"^\| `(--[\w-]+)[^|]*` \| `([^`|]+)` \|", page.read_text(), re.M):
            if page.name != "options.md" and flag in known:
                told.append(flag)
                assert default == known[flag].written(known[flag].unset), (page.name, flag)
    assert "--machine-type" in told


WRONG = {
    "fps": (-1, "is not a rate in frames per second"),
    "detector": ("best", "'best' is not one of 'exact', 'track', 'facenet'"),
    "maps": ("s9", "s9 is not among s8, s16, s32"),
    "store": ("nothing", "nothing is not among maps, crops"),
    "min_face": (3, "3 is not in the range x>=12"),
    "margin": (3.0, "3.0 is not in the range 0<=x<=2"),
    "input_size": ("wide", "'wide' is not a valid integer range"),
    "tasks": ("joy", "'joy' is not one of"),
    "edition": (2, "2 is not in the range 3<=x<=11"),
    "stall_timeout": (0.0, "0.0 is not in the range x>=1"),
    "patience": (-1.0, "-1.0 is not in the range x>=0"),
    "runner": ("beam", "'beam' is not one of 'direct', 'flink', 'spark', 'dataflow'"),
}


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    assert end.value.code == 2
    return " ".join(re.sub(r"[│\s]+", " ", capsys.readouterr().err).split())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_refused_alike(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value, text = WRONG[name]
    flag = next(field.flag for field in JOB_OPTIONS["annotate"] if field.name == name)
    assert text in refused(capsys, "annotate", "x.mp4", "--output", tmp_path / "out", flag, value)
    with pytest.raises(eb.UsageError, match=re.escape(text)) as told:
        eb.annotate("x.mp4", output=tmp_path / "out", **{name: value})  # type: ignore[arg-type]
    assert str(told.value).startswith(f"{name}: ")
    assert not (tmp_path / "out").exists()


def test_unknown_options_are_refused_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To Python they are a ``TypeError``, too, as any argument is that a function doesn't take."""
    assert "No such option '--colour'" in refused(capsys, "extract", "x", "--output", "y", "--colour", "red")
    for kind in (eb.UsageError, TypeError):
        with pytest.raises(kind, match=r"has no option colour; see emobeam extract --help"):
            eb.extract("x", output=tmp_path / "y", colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("option", "value", "owners"),
    [("flink_master", "h:1", "flink"), ("job_endpoint", "h:1", "flink or spark"), ("project", "p", "dataflow")],
)
def test_options_of_an_engine_are_refused_with_another(
    option: str, value: str, owners: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, flag = portrait(tmp_path / "talk.mp4", frames=5), f"--{option.replace('_', '-')}"
    text = f"{flag} belongs to --runner {owners}, not to direct"
    assert text in refused(capsys, "extract", clip, "--output", tmp_path / "out", flag, value)
    with pytest.raises(eb.UsageError, match=re.escape(text)):
        eb.extract(clip, output=tmp_path / "out", **{option: value})  # type: ignore[arg-type]


def changed(field: OptionField, config: ExtractConfig) -> Any:
    """Another value than the config's, that may be written."""
    value, option = field.of(config), field.option
    if option.names:
        return option.names[1:]
    if option.choices:
        return next(choice for choice in reversed(option.choices) if choice not in (value, "auto"))
    return "another" if isinstance(value, str) else value + 1


CONFIGS = {
    "video": ExtractConfig(engine="openvino-f32"),
    "crops": ExtractConfig(source="affwild2", engine="openvino-f32", sampling=SamplingConfig(fps=0.0)),
    "stored": ExtractConfig(engine="openvino-f32", origin=OriginConfig("cafe")),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_inspect_writes_every_option_that_means_something(kind: str, tmp_path: Path) -> None:
    """Also those that are added one day: what it prints makes the same config."""
    config = CONFIGS[kind]
    usual = extract_command("out", config, [])
    for field in options_of(ExtractConfig):
        if field.name in ("engine", "crops"):
            continue
        part, *rest = field.path
        value: Any = changed(field, config)
        inner = replace(getattr(config, part), **{rest[0]: value}) if rest else value
        line = extract_command("out", replace(config, **{part: inner}), [])
        idle = part in config.idle
        assert (line == usual) == idle, field.name
        assert idle or f" {field.flag} {field.written(value)}" in line


def test_what_inspect_prints_is_what_extract_reads(tmp_path: Path) -> None:
    clip = portrait(tmp_path / "talk.mp4", frames=5)
    config = replace(
        CONFIGS["video"],
        sampling=SamplingConfig(fps=0.0, segment_seconds=30.0),
        align=AlignConfig(style="5pt"),
        detector=DetectorConfig(min_face=40, keep=0.5, mode="track"),
        maps=("s8", "s32"),
        views=2,
    )
    words = extract_command(str(tmp_path / "out"), config, [{"inputs": [str(clip)]}]).split()[2:]
    command = cli.commands["extract"]
    args = command.make_context("extract", words).params
    found = extract_request(args, args["output"]).dataset.config
    for field in options_of(ExtractConfig):
        if field.name not in ("engine", "backbone", "backbone_weights", "input_size"):
            assert field.of(found) == field.of(config), field.name


@dataclass(frozen=True)
class NewConfig:
    sharpness: Annotated[float, Option("How sharp.", Section.FACES, metavar="RATIO", least=0, most=2)] = 0.5


def test_a_new_option_is_one_field() -> None:
    """A field is enough for the command line, the values it gives and the config that they make."""

    @click.command()
    @declared(options_of(NewConfig))
    def command(**args: Any) -> None:
        click.echo(repr(args))

    shown = command.get_help(click.Context(command))
    assert re.search(r"--sharpness RATIO\s+How sharp\.", shown)
    params = command.make_context("x", ["--sharpness", "1.5"]).params
    assert params == {"sharpness": 1.5}
    assert from_options(NewConfig, params) == NewConfig(1.5)
    with pytest.raises(click.UsageError, match=r"3\.0 is not in the range 0<=x<=2"):
        command.make_context("x", ["--sharpness", "3"])
