"""The images' files agree with lock lists, sources and command line. Images themselves aren't built here."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import click
import pytest

from emobeam.pipelines.cli import cli
from emobeam.runners.beam_options import check_beam_args

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "runners" / "images"
FLEX = IMAGES / "flex_template"
BIN = Path(sys.executable).parent

Instruction = tuple[str, str]


def instructions(dockerfile: Path) -> list[Instruction]:
    """Instructions with their text, continued lines joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, text) for word, _, text in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def arguments(dockerfile: Path) -> dict[str, str]:
    """Build arguments with their first default."""
    found: dict[str, str] = {}
    for word, text in instructions(dockerfile):
        if word == "ARG" and "=" in text:
            name, _, value = text.partition("=")
            found.setdefault(name, value)
    return found


def locked(name: str) -> dict[str, str]:
    """Versions by package, of lines that hold on the Python of the image."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        requirement, _, marker = line.partition(" ; ")
        if "python_full_version >=" not in marker:
            package, _, version = requirement.partition("==")
            found[package] = version
    return found


def copied(dockerfile: Path) -> list[str]:
    """Sources of COPY that come out of the repository."""
    sources: list[str] = []
    for word, text in instructions(dockerfile):
        if word == "COPY" and "--from=" not in text:
            sources += text.split()[:-1]
    return sources


WITH_TORCH = {"torch", "torchvision", "timm"}
DOCKERFILES = sorted(IMAGES.rglob("Dockerfile"))


def test_both_dockerfiles_are_looked_at() -> None:
    assert len(DOCKERFILES) == 2


def test_versions_are_those_of_the_lock_and_of_the_makefile() -> None:
    args = arguments(IMAGES / "Dockerfile")
    assert args["BEAM_VERSION"] == locked("requirements-dataflow.lock")["apache-beam"]
    assert args["BEAM_VERSION"] == locked("requirements.lock")["apache-beam"]
    assert args["UV_VERSION"] in re.findall(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert args["PYTHON_VERSION"] == project["requires-python"].removeprefix(">=")
    major, minor = args["PYTHON_VERSION"].split(".")
    assert f"python{major}{minor}-template-launcher-base" in arguments(FLEX / "Dockerfile")["LAUNCHER"]


def test_the_version_that_the_build_is_told_is_the_packages_and_the_labels() -> None:
    texts = [text for _, text in instructions(IMAGES / "Dockerfile")]
    install = next(index for index, text in enumerate(texts) if text.endswith("--no-deps ."))
    assert texts[install - 1 : install + 1] == [
        "VERSION=",
        'EMOBEAM_VERSION="${VERSION}" uv pip install --python /opt/emobeam/bin/python --no-deps .',
    ]
    (label,) = [text for text in texts if "org.opencontainers.image.version" in text]
    assert 'org.opencontainers.image.version="${VERSION:-unknown}"' in label
    assert "VERSION=" in texts[install + 1 : texts.index(label)], "an argument ends with its stage"


DECIDING = {
    *(
        "apache-beam",
        "av",
        "decord2",
        "numpy",
        "opencv-python-headless",
        "openvino",
        "pillow",
        "pyarrow",
        "safetensors",
    ),
    *WITH_TORCH,
}
"""Packages that decide what bytes a run writes."""


@pytest.mark.parametrize("name", ["requirements-dataflow.lock", "requirements-worker.lock"])
def test_what_decides_bytes_has_one_version_here_and_in_the_image(name: str) -> None:
    ours, theirs = locked("requirements.lock"), locked(name)
    deciding = DECIDING - WITH_TORCH if "worker" in name else DECIDING
    assert {package: ours[package] for package in deciding} == {package: theirs[package] for package in deciding}
    # tenacity is capped by one of Google's clients, h11 and anyio differ in a marker only
    assert {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]} <= {"tenacity"}
    assert {"mypy", "pytest", "ruff", "playwright", "moto", "facenet-pytorch"}.isdisjoint(theirs)


def test_workers_on_cpus_have_all_but_torch_and_what_came_with_it() -> None:
    every, ours = locked("requirements-dataflow.lock"), locked("requirements-worker.lock")
    assert ours.items() <= every.items()
    missing = {name for name in every.keys() - ours.keys() if not name.startswith(("nvidia-", "cuda-"))}
    assert missing >= {*WITH_TORCH, "triton", "huggingface-hub"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in project["dependencies"]}
    assert asked - ours.keys() == WITH_TORCH


def test_plain_pip_brings_openvino_and_no_facenet_pytorch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in project["dependencies"]}
    assert "openvino" in asked
    assert "facenet-pytorch" not in asked
    assert project["optional-dependencies"]["openvino"] == [], "commands that name the extra go on"


def test_the_lock_lists_name_no_hosts() -> None:
    names = sorted(path.name for path in ROOT.glob("requirements*.lock"))
    assert len(names) == 3
    for name in names:
        assert not re.search(r"://|--(extra-)?index|@ ", (ROOT / name).read_text())


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.parent.name))
def test_every_source_exists_and_reaches_the_build(dockerfile: Path) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    assert copied(dockerfile)
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, rule) or source.startswith(rule + "/") for rule in let_in), source


def test_every_package_of_the_project_is_copied() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    links = {path.readlink().name for path in (ROOT / "emobeam").iterdir() if path.is_symlink()}
    assert len(links) == 4
    assert {*packages["packages"], *links} <= set(copied(IMAGES / "Dockerfile"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.parent.name))
def test_stages_are_declared_before_they_are_copied_from(dockerfile: Path) -> None:
    stages: set[str] = set()
    for word, text in instructions(dockerfile):
        if word == "FROM" and " AS " in text:
            stages.add(text.split(" AS ")[1])
        elif word == "COPY" and (source := re.match(r"--from=(\S+)", text)):
            assert source[1] in stages
    assert stages


def test_nothing_is_installed_when_a_worker_starts() -> None:
    found = instructions(IMAGES / "Dockerfile")
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    environment = " ".join(text for word, text in found[last:] if word == "ENV")
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in environment
    assert "PATH=/opt/emobeam/bin:$PATH" in environment
    assert found[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')
    assert not [
        text for word, text in found[last:] if word == "RUN" and re.search(r"\b(pip|apt-get|curl|wget)\b", text)
    ]
    assert ("COPY", "--from=beam /opt/apache/beam /opt/apache/beam") in found[last:]


def test_networks_are_made_ready_in_a_stage_of_their_own() -> None:
    """It has torch, whatever the last stage has; that one takes what it left, and no package."""
    found = instructions(IMAGES / "Dockerfile")
    stages = [index for index, (word, _) in enumerate(found) if word == "FROM"]
    (networks,) = [index for index in stages if found[index][1].endswith(" AS networks")]
    assert found[networks][1] == "packages AS networks"
    inside = [text for word, text in found[networks : stages[-1]] if word == "RUN"]
    assert inside[0] == 'test "${VARIANT}" = cuda || sh packages.sh torch /opt/emobeam/bin/python'
    assert inside[1].startswith("/opt/emobeam/bin/emobeam models prepare && ")
    places = [text for word, text in found[networks:] if word == "ENV" and "EMOBEAM_PREPARED=/opt/networks" in text]
    assert len(places) == 2, "where networks are made ready, and where workers look"
    taken = [text for word, text in found[stages[-1] :] if word == "COPY"]
    assert [text for text in taken if "=networks" in text] == ["--from=networks /opt/networks /opt/networks"]
    assert "--from=packages /opt/emobeam /opt/emobeam" in taken


def test_the_worker_is_an_ordinary_user() -> None:
    users = [text for word, text in instructions(IMAGES / "Dockerfile") if word == "USER"]
    assert users == ["${WORKER_UID}"]
    assert arguments(IMAGES / "Dockerfile")["WORKER_UID"] != "0"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.parent.name))
def test_habits_that_linters_ask_for(dockerfile: Path) -> None:
    stages: set[str] = set()
    for word, text in instructions(dockerfile):
        assert word in {"ARG", "FROM", "RUN", "COPY", "ENV", "LABEL", "USER", "WORKDIR", "ENTRYPOINT"}
        if word == "WORKDIR":
            assert text.startswith("/")
        if word == "ENTRYPOINT":
            assert json.loads(text)
        if word == "RUN":
            assert "sudo" not in text
            assert "pip install" not in text or "uv pip" in text or "--no-cache-dir" in text
        if word == "FROM":
            assert "${" in text or text.split()[0] in stages  # versions are build arguments
            stages.add(text.split()[-1])


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_list_of_packages_installs_as_the_image_does_it(variant: str, tmp_path: Path) -> None:
    """The very script of the image, resolving only; needs the package index or uv's store of an earlier install."""
    for source in (*ROOT.glob("requirements-*.lock"), IMAGES / "packages.sh"):
        shutil.copy(source, tmp_path)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = ["sh", "packages.sh", variant, sys.executable, "--dry-run", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    if "dns error" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip("the package index can't be reached")
    assert done.returncode == 0, done.stderr
    wrong = subprocess.run(["sh", "packages.sh", "tpu", "python"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "cpu, torch or cuda" in wrong.stderr


def test_the_variant_with_torch_leaves_out_cuda_and_nothing_else() -> None:
    (pattern,) = re.findall(r"grep -Ev '([^']+)'", (IMAGES / "packages.sh").read_text())
    left_out = {name for name in locked("requirements-dataflow.lock") if re.search(pattern, f"{name}==1")}
    assert {"nvidia-cublas", "triton", "cuda-toolkit"} <= left_out
    assert all(name.startswith(("nvidia-", "cuda-")) or name == "triton" for name in left_out)


def options_of(command: str) -> dict[str, click.Parameter]:
    """Options of one command by their long names, without dashes."""
    return {
        name.removeprefix("--"): parameter
        for parameter in cli.commands[command].params
        for name in parameter.opts
        if name.startswith("--") or isinstance(parameter, click.Argument)
    }


PARAMETERS = json.loads((FLEX / "metadata.json").read_text())["parameters"]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: str(parameter["name"]))
def test_parameters_of_the_template_are_the_commands_options(parameter: dict[str, object]) -> None:
    assert parameter.keys() <= {"name", "label", "helpText", "isOptional", "regexes"}
    option = options_of("extract")[str(parameter["name"]).replace("_", "-")]
    assert option.required == (not parameter.get("isOptional", False))
    expressions = parameter.get("regexes", [])
    assert isinstance(expressions, list)
    for expression in expressions:
        assert re.compile(expression)
    choices = getattr(option.type, "choices", None) or getattr(option.type, "known", None)
    if choices:
        # auto is left out: a template's launcher isn't the machine that it would be resolved for
        assert all(re.search(each, choice) for choice in choices if choice != "auto" for each in expressions)


def test_inputs_of_the_template_are_places_in_buckets() -> None:
    (expression,) = next(p["regexes"] for p in PARAMETERS if p["name"] == "inputs")
    for good in ("gs://lab-affect/videos", "gs://lab-affect/videos/*.mp4", "gs://lab-affect/a gs://lab-affect/b"):
        assert re.search(expression, good)
    for bad in ("videos/", "s3://x/y", "gs://A/x", "gs://lab-affect/a b"):
        assert not re.search(expression, bad)


@pytest.fixture(scope="module")
def launch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", FLEX / "launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LAUNCHED = [
    *("--inputs=gs://lab-affect/a gs://lab-affect/b", "--output=gs://lab-affect/features", "--backbone_weights=/opt/w"),
    *("--fps=native", "--only=", "--runner=DataflowRunner", "--project=lab", "--region=europe-west4"),
    *("--temp_location=gs://lab-affect/tmp", "--staging_location=gs://lab-affect/staging", "--max_num_workers=9"),
    *("--sdk_container_image=registry/emobeam:1", "--template_location=gs://lab-affect/template", "--job_name=x"),
    *("--service_account_email=w@lab", "--subnetwork=regions/r/s", "--autoscaling_algorithm=THROUGHPUT_BASED"),
]
"""As the launcher of a template calls its file."""


def test_a_templates_parameters_become_a_command(launch: ModuleType) -> None:
    command = launch.command_line(LAUNCHED)
    split = command.index("--")
    assert command[:4] == ["emobeam", "extract", "gs://lab-affect/a", "gs://lab-affect/b"]
    beam = command[split + 1 :]
    assert beam == [
        *("--staging_location=gs://lab-affect/staging", "--template_location=gs://lab-affect/template", "--job_name=x"),
        *("--service_account_email=w@lab", "--subnetwork=regions/r/s"),
    ]
    check_beam_args(beam, "dataflow")
    pairs = dict(pairwise(command))
    assert pairs["--output"] == "gs://lab-affect/features"
    assert pairs["--backbone-weights"] == "/opt/w"
    assert pairs["--image"] == "registry/emobeam:1"
    assert pairs["--workers"] == "9"
    assert "--only" not in pairs


def test_the_command_of_a_template_is_one_that_emobeam_takes(launch: ModuleType) -> None:
    command = launch.command_line(LAUNCHED)
    context = cli.commands["extract"].make_context("extract", command[2 : command.index("--")], resilient_parsing=False)
    assert context.params["runner"] == "dataflow"
    assert context.params["inputs"] == ("gs://lab-affect/a", "gs://lab-affect/b")
    assert context.params["fps"] == 0.0


def test_a_template_without_inputs_is_told(launch: ModuleType) -> None:
    with pytest.raises(SystemExit, match="inputs"):
        launch.command_line(["--output=gs://lab-affect/features"])
