"""The Python interface does what the commands do, with the same names, defaults and checks."""

from __future__ import annotations

import inspect
import json
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import emobeam as eb
from emobeam.arguments import checked
from emobeam.emo_transforms.prediction.prediction_tables import part_name
from emobeam.pipelines.cli import cli, main
from emobeam.schemas.tables import predictions_schema
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.report.outputs import write_table
from tests.pipelines.conftest import Run
from tests.pipelines.runs import files, rows

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "agree": eb.agree,
    "annotate": eb.annotate,
    "events": eb.events,
    "export": eb.export,
    "extract": eb.extract,
    "predict": eb.predict,
    "report": eb.report,
    "score": eb.score,
    "summarise": eb.summarise,
}
OWN = {"progress", "beam_args", "more"}
"""Arguments without an option."""

RENAMED = {"agree": {"format": "style"}, "report": {"output": "out", "destination": "output"}}
"""Where an argument is called otherwise than the command's, which only people see."""

NOT_IN_PYTHON = {"as_json", "quiet", "verbose", "per_video", "help"}
"""What commands print is not what functions give back."""


def arguments(command: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(FUNCTIONS[command]).parameters)


@pytest.mark.parametrize("command", FUNCTIONS)
def test_defaults_are_those_of_the_command(command: str) -> None:
    defaults, named = checked(command, {})
    assert not named
    names = RENAMED.get(command, {})
    for name, parameter in arguments(command).items():
        if name in OWN or parameter.default is inspect.Parameter.empty:
            continue
        option = names.get(name, name)
        assert parameter.default in (defaults[option], None) or not (parameter.default or defaults[option]), name


@pytest.mark.parametrize("command", FUNCTIONS)
def test_no_option_is_out_of_reach(command: str) -> None:
    own = arguments(command)
    if "more" in own:
        return
    options = {param.name for param in cli.commands[command].params if param.name}
    names = RENAMED.get(command, {})
    assert options - NOT_IN_PYTHON <= {names.get(name, name) for name in own}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_only_what_the_command_takes_unnamed_is_unnamed(command: str) -> None:
    kinds = [parameter.kind for parameter in arguments(command).values()]
    unnamed = 2 if command == "agree" else 1  # agree OUT --human FILE, the two that are compared
    assert all(kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds[unnamed:])


def test_values_are_what_the_command_would_make_of_them() -> None:
    text = "a.mp4 b --output o --fps native --maps s32,s8 --min-face 30 --store maps,crops --only x,y"
    command = cli.commands["extract"]
    expected = command.make_context("extract", shlex.split(text)).params
    told = {"inputs": ["a.mp4", Path("b")], "output": Path("o"), "fps": "native", "maps": ("s32", "s8")}
    values, named = checked("extract", told | {"min_face": 30, "store": ["maps", "crops"], "only": ["x", "y"]})
    assert {key: values[key] for key in expected} == expected
    assert named == {"inputs", "output", "fps", "maps", "min_face", "store", "only"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": -1}, "fps: -1 is not a rate"),
        ({"detector": "best"}, "detector: 'best' is not one of"),
        ({"maps": ["s9"]}, "maps: s9 is not among"),
        ({"min_face": 3}, "min_face: 3 is not in the range"),
        ({"videos": "raw/"}, "belong to folders of crops"),
    ],
)
def test_wrong_values_are_refused(options: dict[str, Any], message: str, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(eb.UsageError, match=message):
        eb.extract(clip_folder, output=tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(TypeError, match=r"has no option colour; see emobeam extract --help"):
        eb.extract("x", output="y", colour=True)  # type: ignore[call-arg]


@pytest.mark.usefixtures("in_pool")
def test_a_run_gives_the_bytes_of_the_command(reference: Run, tmp_path: Path) -> None:
    with pytest.warns(eb.EmobeamWarning, match="an untrained head"):
        done = eb.predict(reference.features, output=tmp_path / "a", tasks="au", heads="untrained", workers=1)
    with pytest.raises(SystemExit) as end:
        main(["predict", str(reference.features), "--output", str(tmp_path / "b"), "--head", "untrained", "-q"])
    assert files(tmp_path / "a" / "predictions") == files(tmp_path / "b" / "predictions")
    assert done.ok == (end.value.code == 0)
    assert done.tasks == ("au",)
    assert done.untrained == ("head of task au",)
    assert done.outcomes == {"ok": 3, "no_face": 1}
    assert done.to_pandas()["video"].tolist() == [row["video"] for row in rows(tmp_path / "a" / "videos.parquet")]
    assert repr(done).startswith(f"<Predicted '{tmp_path / 'a'}'; 3 ok, 1 no_face;")
    assert "UNTRAINED: head of task au" in repr(done)
    assert done.warnings
    assert len(done.load("au")) == sum(done.summary["rows"].values())


@pytest.mark.usefixtures("in_pool")
@pytest.mark.filterwarnings("ignore::emobeam.EmobeamWarning")
@pytest.mark.parametrize("both", [False, True])
def test_faces_that_are_asked_for_are_written_though_others_were_before(
    both: bool, reference: Run, copy_of_features: Callable[[], Path], tmp_path: Path
) -> None:
    """As by the command: ``--faces main`` is asked for, and not asking leaves what was."""
    cache = {"heads": "untrained", "tasks": "au", "only": "pair", "workers": 1}
    if both:
        features = copy_of_features()

        def run(output: Path, **options: Any) -> None:
            made = {"segment_seconds": 1.0, "backbone_weights": "untrained", "input_size": 224}
            places = {"features": features, "output": output}
            eb.annotate(reference.inputs, **places, **made, **cache, **options)  # type: ignore[arg-type]
    else:

        def run(output: Path, **options: Any) -> None:
            eb.predict(reference.features, output=output, **cache, **options)  # type: ignore[arg-type]

    def faces(output: Path) -> set[int]:
        return {row["face"] for row in rows(output / "predictions" / "au" / part_name("day 1/pair"))}

    output = tmp_path / "out"
    run(output, faces="all")
    assert faces(output) == {0, 1}
    run(output)
    assert faces(output) == {0, 1}
    run(output, faces="main")
    assert faces(output) == {0}


def test_a_warning_names_the_users_own_line(reference: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"import emobeam as eb\neb.events({str(reference.output)!r})\n")
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "mine.py:2: EmobeamWarning: task au: an untrained head" in done.stderr
    assert done.stdout == ""


def test_what_libraries_log_while_they_load_is_kept_back(tmp_path: Path) -> None:
    code = "import emobeam as eb, logging\ntry:\n    eb.extract('nowhere', output='x')\nexcept eb.EmobeamError as e:"
    code += "\n    print(e)\nassert not logging.root.handlers and not logging.root.manager.disable"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "nowhere" in done.stdout


def test_predictions_in_every_form(reference: Run) -> None:
    expected = pq.read_table(reference.output / "predictions" / "au" / part_name("talk"))
    arrow = eb.load_predictions(reference.output, task="au", as_="arrow", videos="talk")
    assert isinstance(arrow, pa.Table)
    assert arrow.to_pylist() == expected.to_pylist()
    polars = eb.load_predictions(reference.output, task="au", as_="polars", videos=["talk"])
    assert isinstance(polars, pl.DataFrame)
    assert polars.to_dicts() == expected.to_pylist()
    sampled = eb.load_predictions(reference.output, task="au", rate="sampled", videos="talk")
    assert len(sampled) == expected["source"].to_pylist().count("sampled")
    every = eb.load_predictions(reference.output, task="au")
    assert every["video"].unique().tolist() == ["absent", "day 1/pair", "nobody", "talk"]
    assert every.loc[every.source == "absent", list(TASKS["au"].outputs)].isna().all().all()
    beside = eb.load_predictions(reference.output)
    np.testing.assert_array_equal(beside["AU12"], every["AU12"])


def test_features_in_every_form(reference: Run) -> None:
    shards = [pq.read_table(path) for path in (reference.features / "shards").glob("*.parquet")]
    total = sum(map(len, shards))
    pandas = eb.load_features(reference.features)
    assert len(pandas) == total
    assert list(pandas.columns) == ["video", "track", "frame", "time", "box", "score", "landmarks"]
    order = list(zip(pandas.video, pandas.frame, strict=True))
    assert order == sorted(order)
    names = ["video", "frame", "track", "map_s32"]
    deep = eb.load_features(reference.features, columns=names, videos="pair")
    arrow = eb.load_features(reference.features, columns=names, videos="pair", as_="arrow")
    polars = eb.load_features(reference.features, columns=names, videos="pair", as_="polars")
    assert set(deep.video) == {"day 1/pair"}
    assert deep.map_s32[0].shape == (128, 7, 7)
    stacked = np.stack(deep.map_s32.tolist())
    np.testing.assert_array_equal(stacked, arrow["map_s32"].combine_chunks().to_numpy_ndarray())
    np.testing.assert_array_equal(stacked, np.stack(polars["map_s32"].to_numpy()))


def test_rows_for_torch(reference: Run) -> None:
    data = eb.load_features(reference.features, as_="torch")
    assert isinstance(data, eb.FeatureRows)
    seen = list(data)
    assert len(seen) == len(data) == len(eb.load_features(reference.features))
    shapes = {name: tuple(value.shape) for name, value in seen[0].items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "box": (4,),
        "landmarks": (10,),
        "map_s8": (64, 28, 28),
        "map_s16": (96, 14, 14),
        "map_s32": (128, 7, 7),
    }
    for table in (pq.read_table(path) for path in (reference.features / "shards").glob("*.parquet")):
        if not len(table):
            continue
        maps = np.frombuffer(b"".join(table["map_s32"].to_pylist()), "<f2").reshape(-1, 128, 7, 7)
        for row, values in zip(table.select(["video", "frame", "track", "box"]).to_pylist(), maps, strict=True):
            key = (row["video"], row["frame"], row["track"])
            mine = [s for s in seen if (s["video"], s["frame"], s["track"]) == key and s["box"].tolist() == row["box"]]
            assert any(np.array_equal(each["map_s32"].numpy(), values) for each in mine)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_share_the_shards(reference: Run, workers: int) -> None:
    data = eb.FeatureRows(reference.features, columns=["video", "frame", "track", "box"])
    loader = torch.utils.data.DataLoader(data, batch_size=7, num_workers=workers)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        batches = list(loader)
    keys = [
        key for b in batches for key in zip(b["video"], b["frame"].tolist(), map(tuple, b["box"].tolist()), strict=True)
    ]
    alone = [(row["video"], row["frame"], tuple(row["box"].tolist())) for row in data]
    assert sorted(keys) == sorted(alone)
    if not workers:
        assert keys == alone


def test_what_is_not_there_is_named(reference: Run, tmp_path: Path) -> None:
    with pytest.raises(eb.EmobeamError, match="not a feature cache"):
        eb.load_features(tmp_path)
    with pytest.raises(eb.UsageError, match="has no column embedding; it has video, track"):
        eb.load_features(reference.features, columns=["embedding"])
    with pytest.raises(eb.UsageError, match="has no video called stranger"):
        eb.load_features(reference.features, videos="stranger")
    with pytest.raises(eb.EmobeamError, match="no predictions of task va"):
        eb.load_predictions(reference.output, task="va")
    wrong: Any = "excel"
    with pytest.raises(eb.UsageError, match="as_='excel': choose one of"):
        eb.load_predictions(reference.output, as_=wrong)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = eb.nothing


def test_events_and_summaries(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(eb.EmobeamWarning, match="untrained"):
        found = eb.events(reference.output, thresholds={"AU12": 0.42}, min_duration=0.1)
    command = ["--threshold", "AU12=0.42", "--min-duration", "0.1", "--output", str(tmp_path / "e.parquet"), "--json"]
    with pytest.raises(SystemExit):
        main(["events", str(reference.output), *command])
    assert found.table.to_pylist() == pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert len(found) == json.loads(capsys.readouterr().out)["events"]
    with pytest.warns(eb.EmobeamWarning):
        assert len(eb.summarise(reference.output, by="person").to_pandas())


def test_thresholds_keep_all_their_digits(reference: Run) -> None:
    """A threshold that was read off a table is reached by the value it was read off."""
    table = eb.load_predictions(reference.output, task="au", rate="sampled")
    highest = table["AU12"].max()
    limit = np.nextafter(highest, np.float32(0))
    assert float(f"{limit:g}") != float(limit)
    one = {"AU12": limit}
    for given in (one, {"AU12": float(limit)}, [f"AU12={float(limit)!r}"], limit, float(limit)):
        with pytest.warns(eb.EmobeamWarning):
            found = eb.events(reference.output, thresholds=given, off=0.0 if given is not one else one, min_duration=0)
        rows = [row for row in found.table.to_pylist() if row["unit"] == "AU12"]
        assert {row["on"] for row in rows} == {float(limit)}
        assert max(row["peak"] for row in rows) == highest


def test_clip_level_tasks_alone_are_loaded(tmp_path: Path) -> None:
    outputs = TASKS["emi"].outputs
    for video, value in (("a", 0.25), ("b/c", None)):
        row = {"video": video, "subject": "", **dict.fromkeys(outputs, value)}
        write_table(tmp_path, "emi", video, pa.Table.from_pylist([row], predictions_schema(outputs, clip=True)))
    every = eb.load_predictions(tmp_path, as_="arrow")
    assert every.to_pylist() == eb.load_predictions(tmp_path, task="emi", as_="arrow").to_pylist()
    assert len(every) == 2
    assert eb.load_predictions(tmp_path, videos="c")["video"].tolist() == ["b/c"]


def test_export_and_score(reference: Run, tmp_path: Path) -> None:
    done = eb.export(reference.output, format="csv", destination=tmp_path / "x", only=["talk", "absent"])
    assert (done.ok, done.videos, done.files) == (True, 2, 2)
    folder = tmp_path / "labels" / "AU_Detection_Challenge" / "Validation_Set"
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0).integers(0, 2, (75, 12))
    text = [",".join(TASKS["au"].outputs), *(",".join(map(str, row)) for row in drawn.tolist())]
    (folder / "talk.txt").write_text("\n".join(text) + "\n")
    options = {"task": "au", "truth": tmp_path / "labels", "resamples": 20}
    figure = eb.score(**options, predictions=reference.output / "predictions" / "au")
    assert figure.value == figure.data["score"]
    assert figure.interval is None  # one video: there is nothing to draw from
    assert figure.to_pandas()["video"].tolist() == ["talk"]
    assert repr(figure) == f"<Score au, ABAW8: mean F1 of 12 outputs {figure.value:.4f}>"


def test_progress_is_shown_when_asked_for(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eb.export(reference.output, format="csv", destination=tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    eb.export(reference.output, format="csv", destination=tmp_path / "shown", progress=True)
    assert "export: 4/4 videos" in capsys.readouterr().err
    for function in (eb.events, eb.summarise):
        with pytest.warns(eb.EmobeamWarning, match="untrained"):
            function(reference.output)
        assert capsys.readouterr() == ("", "")
        with pytest.warns(eb.EmobeamWarning, match="untrained"):
            function(reference.output, progress=True)
        assert f"{function.__name__}: 4/4 videos" in capsys.readouterr().err
