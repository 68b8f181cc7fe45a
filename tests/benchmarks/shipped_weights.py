"""The goals of the shipped weights: ``python -m tests.benchmarks.shipped_weights --material DIR [--write]``.

All on the test side of ``shipped/split.json``: identities of the London set, rendered people from
100000 on, real clips. Figures say how many people they rest on, and have a 95 % interval from a bootstrap over
identities where these are eight at least; the correlation in one clip has one over stretches of its time, where four
fit that are as long as the head's window and smoothing. Other weights are judged with
``--backbone FILE --head FOLDER``. ``--material`` is a folder with ``london/``, ``face_landmarker.task`` and
``ict_light.npz``; what isn't there is left out and said.

``--work`` keeps what doesn't depend on the weights (the teacher's readings, crops of the clips, renders), so that a
second run is quick.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from emobeam.emo_transforms.networks.shipped import SHIPPED, shipped_head
from emobeam.emo_transforms.storage import write_json
from emobeam.schemas.records import EmobeamError
from tests.benchmarks.figures import Goal, Section, to_json
from tests.benchmarks.material import REAL
from tests.benchmarks.measure import machine_facts
from tests.benchmarks.weights import calls, clips, opened, photographs, renders, teacher
from tests.benchmarks.weights.measured import Measured, lacking, unmeasured
from tests.benchmarks.weights.network import Network, load_network
from tests.benchmarks.weights.page import calls_table, goals_table, parts_table, units_table, write_page

_LONDON, _TASK, _MODEL = "london", "face_landmarker.task", "ict_light.npz"
_OPEN = "London smiling against {} that open the mouth without a smile: AUC of AU12"


@dataclass
class Results:
    """Rows of the tables, and what was missing to fill them."""

    goals: list[Measured] = field(default_factory=list)
    clips: list[Measured] = field(default_factory=list)
    called: list[Measured] = field(default_factory=list)
    calls: list[calls.Calls] = field(default_factory=list)
    parts: list[Measured] = field(default_factory=list)
    mirrors: list[Measured] = field(default_factory=list)
    units: list[renders.Unit] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Measured]:
        return [*self.goals, *self.clips, *self.called, *self.mirrors, *self.parts]


def measure(options: argparse.Namespace, network: Network, work: Path) -> Results:
    """Measures all goals for which there is material."""
    found = Results()
    pictures = _photographs(options, network, found)
    plain = photographs.values_of(pictures, network) if pictures else None
    _say("renders")
    scored = _renders(options, network, work, found)
    _say("clips")
    shot, readings = _clips(options, network, work, found)

    if pictures is not None and plain is not None:
        smile = plain[:, network.column("AU12")]
        found.goals += photographs.smile_goal(pictures, smile)
        found.called += photographs.smile_calls(pictures, smile, network.threshold("AU12"))
        found.parts += photographs.smile_by_group(pictures, smile) + photographs.smile_by_size(pictures, network)
        found.goals += _open_in_clips(pictures, smile, shot, readings)
        found.goals += _open_in_photographs(options, network, pictures, smile, found)
        found.goals += _open_in_renders(pictures, smile, scored)
    if shot and readings:
        rows = clips.agreement(shot, readings, network.stretch)
        found.goals += [row for row in rows if row.key.count(".") == 1]
        found.clips += [row for row in rows if row.key.count(".") > 1]
        found.calls = calls.calls(shot, readings, network)
    elif shot:
        found.goals.append(unmeasured("teacher", "agreement with the teacher", "mediapipe or its file is missing"))
    if scored is not None:
        goals, found.units = renders.sequence_goals(scored)
        found.goals += goals
        found.parts += renders.where_it_fails(scored)
        _say("mirrored faces")
        _mirrors(found, network, scored, pictures)
    if shot:
        found.goals += clips.smile_begins(shot, network.stretch)
    found.missing += [f"{row.what}: {row.note}" for row in lacking(found.goals)]
    return found


def _open_in_clips(
    pictures: photographs.Photographs,
    smile: photographs.Floats,
    shot: Sequence[clips.Clip],
    readings: dict[str, list[teacher.Reading]],
) -> list[Measured]:
    goal, what = Goal(at_least=0.85), _OPEN.format("real people")
    if not shot or not readings:
        return [unmeasured("open.real", what, "no clips, or no teacher", goal)]
    people, theirs = clips.open_mouths(shot, readings)
    if not people:
        return [unmeasured("open.real", what, "the teacher sees no such frame", goal)]
    counts = Counter(person.removeprefix("clip ") for person in people)
    told = ", ".join(f"{count} of {person}" for person, count in counts.most_common())
    note = (
        f"{len(pictures.identities)} people against {len(counts)}: frames of clips in which the teacher sees it, {told}"
    )
    return [photographs.open_mouth_goal(pictures, smile, "open.real", what, people, theirs, goal, note)]


def _open_in_photographs(
    options: argparse.Namespace,
    network: Network,
    pictures: photographs.Photographs,
    smile: photographs.Floats,
    found: Results,
) -> list[Measured]:
    """The same source on both sides: jaws of neutral photographs, opened by warping."""
    what = _OPEN.format("neutral photographs, jaws opened by warping,")
    task, model = options.material / _TASK, options.material / _MODEL
    try:
        size = network.backbone.config.input_size
        faces = opened.opened(options.material / _LONDON, task, model, size, options.limit)
    except (EmobeamError, FileNotFoundError) as error:
        found.missing.append(f"{what}: {error}")
        return [unmeasured("open.warped", what, f"no teacher, or no face model: {error}")]
    if not faces:
        return [unmeasured("open.warped", what, "the teacher sees no such face")]
    theirs = photographs.values_of_crops([crop for _, crop in faces], network)[:, network.column("AU12")]
    note = f"{len(faces)} of {len(pictures.identities)} people, in whose opened mouth the teacher sees no smile"
    people = [f"london {person}" for person, _ in faces]
    return [photographs.open_mouth_goal(pictures, smile, "open.warped", what, people, theirs, None, note)]


def _open_in_renders(
    pictures: photographs.Photographs, smile: photographs.Floats, scored: renders.Scored | None
) -> list[Measured]:
    if scored is None:
        return []
    people, theirs = renders.open_mouths(scored)
    what, note = _OPEN.format("rendered people"), f"{len(people)} rendered frames of {len(set(people))} people"
    if not people:
        return [unmeasured("open.renders", what, "no such frame")]
    return [photographs.open_mouth_goal(pictures, smile, "open.renders", what, people, theirs, None, note)]


def _mirrors(
    found: Results, network: Network, scored: renders.Scored, pictures: photographs.Photographs | None
) -> None:
    names = renders.steady_units(found.units)
    columns = [scored.renders.units.index(name) for name in names]
    order = {person: place for place, person in enumerate(sorted(set(scored.renders.person.tolist())))}
    groups = [order[person] for person in scored.renders.person.tolist()]
    other = renders.run(scored.renders, network, mirrored=True)
    rows = renders.mirror_goal(
        "mirror.renders", "mirrored renders", names, groups, scored.values[:, columns], other[:, columns]
    )
    if pictures is not None:
        places = [network.column(name) for name in names]
        plain, turned = (photographs.values_of(pictures, network, mirrored=m)[:, places] for m in (False, True))
        rows += renders.mirror_goal(
            "mirror.london", "mirrored London photographs", names, pictures.groups, plain, turned
        )
    found.goals += [row for row in rows if row.key.count(".") == 1]
    found.mirrors += [row for row in rows if row.key.count(".") > 1]


def _photographs(options: argparse.Namespace, network: Network, found: Results) -> photographs.Photographs | None:
    folder = options.material / _LONDON
    if not folder.is_dir():
        _lacks(found, f"{folder} isn't there: no photographs")
        return None
    _say("photographs")
    return photographs.read_photographs(folder, network.backbone.config.input_size, options.limit)


def _renders(options: argparse.Namespace, network: Network, work: Path, found: Results) -> renders.Scored | None:
    folder = options.renders
    if folder is None:
        model = options.material / _MODEL
        if not model.exists():
            _lacks(found, f"{model} isn't there: no renders")
            return None
        folder = work / "renders"
        _render(model, folder, options.limit or 60)
    return renders.score(renders.read_renders(folder, network.units, options.limit), network)


def _render(model: Path, folder: Path, people: int) -> None:
    from emobeam.emo_transforms.training.material.rendering.people import RenderConfig
    from emobeam.pipelines.training.render import RenderRequest, run_render
    from tests.benchmarks.runs import Watch

    config = RenderConfig(size=160, pictures=0, clips=1, seconds=5)
    run_render(RenderRequest(str(model), str(folder), first=100000, people=people, config=config, workers=1), Watch())


def _clips(
    options: argparse.Namespace, network: Network, work: Path, found: Results
) -> tuple[list[clips.Clip], dict[str, list[teacher.Reading]]]:
    paths = [options.clips / name for name in clips.CLIPS if (options.clips / name).exists()]
    if len(paths) < len(clips.CLIPS):
        there = {path.name for path in paths}
        _lacks(found, f"{options.clips}: without {', '.join(name for name in clips.CLIPS if name not in there)}")
    if not paths:
        return [], {}
    shot = clips.annotated(paths, network, work)
    task = options.material / _TASK
    try:
        return shot, {path.name: teacher.readings(path, task, work) for path in paths}
    except (EmobeamError, FileNotFoundError) as error:
        _lacks(found, f"no teacher: {error}")
        return shot, {}


def _lacks(found: Results, text: str) -> None:
    found.missing.append(text)
    _say(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def page_text(found: Results, network: Network) -> str:
    """All tables."""
    who = network.identity()
    backbone, head = (who[f"{part}_sha256"][:12] for part in ("backbone", "head"))
    first = f"Backbone `{Path(who['backbone']).name}` (sha256 {backbone}), head `{who['head']}` (sha256 {head})."
    parts = [first, goals_table(found.goals)]
    if found.clips:
        parts.append(parts_table("### Agreement with the teacher, clip by clip", found.clips))
    if found.called:
        parts.append(parts_table("### Decisions on real faces: photographs", found.called))
    if found.calls:
        parts.append("### " + calls_table(found.calls))
    if found.units:
        parts.append("### " + units_table(found.units))
    if found.parts:
        parts.append(parts_table("### Where it fails: the same figures in parts of the test side", found.parts))
    if found.mirrors:
        parts.append(parts_table("### Mirrored faces, unit by unit: mean change of the probability", found.mirrors))
    return "\n\n".join(part.strip() for part in parts)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True, help="folder with the London set, teacher and model")
    parser.add_argument("--backbone", metavar="FILE", default=SHIPPED, help="default: the shipped one")
    parser.add_argument("--head", metavar="FOLDER", default="", help="default: the shipped one")
    parser.add_argument("--clips", type=Path, default=REAL, help="folder of the real clips (default: %(default)s)")
    parser.add_argument("--renders", type=Path, help="people folder of test clips (default: rendered into --work)")
    parser.add_argument("--work", type=Path, help="folder for what can be used again (default: a temporary one)")
    parser.add_argument("--limit", type=int, default=0, help="this many identities only, to see whether it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into docs/weights.md, if every goal was measured"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    if (options.backbone == SHIPPED) != (not options.head):
        raise SystemExit("--backbone and --head belong together: name both, or neither for the shipped ones")
    if options.write and (options.head or options.limit):
        raise SystemExit("--write is for the shipped weights and all identities: leave --head and --limit out")
    head = shipped_head("au") if not options.head else None
    for path in (options.head, options.material):
        if path and not Path(path).exists():
            raise SystemExit(f"{path}: isn't there")
    if options.write:
        _refuse([f"{path}: isn't there" for path in _needed(options) if not path.exists()])
    torch.set_num_threads(1)
    began, facts = time.monotonic(), machine_facts()
    network = load_network(options.backbone, str(head.folder) if head else options.head)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emobeam-weights-")))
        work.mkdir(parents=True, exist_ok=True)
        found = measure(options, network, work)
    seconds = time.monotonic() - began
    text = page_text(found, network)
    print(text)
    _say(f"{seconds:.0f} s")
    if options.json:
        details: dict[str, Any] = {"weights": network.identity(), "machine": facts, "limit": options.limit}
        details["calls"] = [asdict(call) for call in found.calls]
        details["missing"] = found.missing
        details["units"] = [_unit(unit) for unit in found.units]
        write_json(str(options.json), to_json(Section("weights", tuple(found.rows), details=details, seconds=seconds)))
    if options.write:
        _refuse(found.missing)
        write_page(text)


def _needed(options: argparse.Namespace) -> list[Path]:
    """Without what a row of the page would stay empty."""
    material = [options.material / name for name in (_LONDON, _TASK, _MODEL)]
    return [*material, *(options.clips / name for name in clips.CLIPS)]


def _refuse(missing: Sequence[str]) -> None:
    """Raises SystemExit where something is missing: no page with holes takes the place of a whole one."""
    if missing:
        lines = "\n  ".join(missing)
        raise SystemExit(f"--write: docs/weights.md stays as it is, for not every goal was measured:\n  {lines}")


def _unit(unit: renders.Unit) -> dict[str, Any]:
    data = asdict(unit)
    for figure in ("f1", "auc"):
        del data[figure]["draws"]
    return data


if __name__ == "__main__":
    main()
