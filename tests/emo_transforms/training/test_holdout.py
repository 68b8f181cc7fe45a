"""The hold-out: cut by person, never the official validation set."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.training.holdout import (
    OVERSHOOT,
    cut_holdout,
    group_of,
    grouped_by,
    named_holdout,
    read_ids,
    read_persons,
    training_labels,
)
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.data import Clip, write_labels

AU = TASKS["au"]


@pytest.mark.parametrize(
    ("task", "name", "group"),
    [
        ("au", "video12", "video12"),
        ("au", "video12_left", "video12"),
        ("va", "video12-1", "video12"),
        ("va", "video45_1_right", "video45"),
        ("expr", "clip_part2", "clip"),
        ("expr", "clip-part2_left", "clip"),
        ("au", "14-30-1920x1080", "14-30-1920x1080"),
        ("au", "122-60-1920x1080-5", "122-60-1920x1080"),
        ("au", "6-30-1920x1080_left", "6-30-1920x1080"),
        ("au", "_left", "_left"),
        ("ah", "82683/Visite_1/82683_Question_1_Video.mp4", "82683"),
        ("ah-video", "Videos/82683/Visite_1/82683_Question_1_Video.mp4", "82683"),
        ("emi", "00012", "00012"),
    ],
)
def test_groups(task: str, name: str, group: str) -> None:
    assert group_of(TASKS[task], name) == group


@pytest.mark.parametrize(
    ("task", "by"), [("au", "recording"), ("ah", "participant"), ("emi", "clip"), ("expr", "recording")]
)
def test_what_is_held_out_together_is_called_what_it_is(task: str, by: str) -> None:
    assert grouped_by(TASKS[task]) == by


@given(
    sizes=st.dictionaries(st.integers(0, 60), st.integers(0, 500), min_size=2, max_size=40),
    groups=st.integers(2, 20),
    fraction=st.floats(0.01, 0.6),
    seed=st.integers(0, 5),
)
def test_groups_stay_together_and_both_sides_have_some(
    sizes: dict[int, int], groups: int, fraction: float, seed: int
) -> None:
    names = {f"v{number}": size for number, size in sizes.items()}
    by_name = {f"v{number}": f"g{number % groups}" for number in sizes}
    if len(set(by_name.values())) < 2:
        return
    cut = cut_holdout(names, by_name, fraction, seed=seed)
    assert {*cut.train, *cut.held} == set(names)
    assert not set(cut.train) & set(cut.held)
    assert not {by_name[name] for name in cut.train} & {by_name[name] for name in cut.held}
    assert cut.train
    assert cut.held
    shuffled = dict(reversed(names.items()))
    assert cut_holdout(shuffled, by_name, fraction, seed=seed) == cut
    if len({by_name[name] for name in cut.held}) > 1:
        weight = sum(max(names[name], 1) for name in cut.held)
        assert weight <= OVERSHOOT * fraction * sum(max(size, 1) for size in names.values()) + 1


def test_about_the_fraction_is_held_out_and_the_seed_chooses() -> None:
    names = {f"v{number}": 100 for number in range(200)}
    own = {name: name for name in names}
    cuts = [cut_holdout(names, own, 0.1, seed=seed) for seed in range(3)]
    assert [len(cut.held) for cut in cuts] == [20] * 3
    assert len({cut.held for cut in cuts}) == 3
    more = cut_holdout(names | {"new": 100}, own | {"new": "new"}, 0.1)
    assert len(set(more.held) ^ set(cuts[0].held)) <= 3, "one more video changes little"
    assert cut_holdout(names, own, 0.0).held == ()


def test_one_group_is_told() -> None:
    with pytest.raises(EmobeamError, match="--subjects"):
        cut_holdout({"a_1": 5, "a_2": 5}, {"a_1": "a", "a_2": "a"}, 0.1)


def test_named_ids() -> None:
    names = ["video1", "video2_left", "video2_right", "video3"]
    cut = named_holdout(names, ["video2_left", "video3"])
    assert cut.held == ("video2_left", "video3")
    assert named_holdout(names, ["video2"]).held == ("video2_left", "video2_right")
    with pytest.raises(UsageError, match="video9"):
        named_holdout(names, ["video9"])
    with pytest.raises(UsageError, match="some must be left"):
        named_holdout(names, names)


def test_files_of_ids_and_persons(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("# held out\nvideo1\n\nvideo2\n")
    assert read_ids(str(path)) == ["video1", "video2"]
    path.write_text("\n")
    with pytest.raises(EmobeamError, match="no ids"):
        read_ids(str(path))
    with pytest.raises(EmobeamError, match="no such file"):
        read_ids(str(tmp_path / "none.txt"))
    table = tmp_path / "people.csv"
    table.write_text("video,subject\nvideo1,anna\nvideo2,anna\nvideo3,bob\n")
    found = read_persons(str(table), ["video1", "video2_left", "video4"])
    assert found == {"video1": "anna", "video2_left": "anna"}
    table.write_text("video,person\nvideo1,anna\n")
    with pytest.raises(UsageError, match="no column subject"):
        read_persons(str(table), ["video1"])
    table.write_text("video,subject\nother,anna\n")
    with pytest.raises(EmobeamError, match="none of the labelled"):
        read_persons(str(table), ["video1"])


def labels(root: Path, **partitions: list[str]) -> str:
    folders = {"train": "Train_Set", "validation": "Validation_Set"}
    for partition, names in partitions.items():
        for name in names:
            write_labels(root, Clip(name, 2, partition=folders[partition]), AU)
    return str(root)


def test_the_training_partition_is_taken_and_no_other(tmp_path: Path) -> None:
    uri = labels(tmp_path, train=["a", "b"], validation=["c"])
    found, partition = training_labels(uri, AU, warn=pytest.fail)
    assert ([entry.name for entry in found], partition) == (["a", "b"], "train")
    with pytest.raises(UsageError, match="allow-official-validation"):
        training_labels(uri, AU, partition="validation", warn=pytest.fail)
    found, partition = training_labels(uri, AU, partition="validation", allow_official=True, warn=pytest.fail)
    assert ([entry.name for entry in found], partition) == (["c"], "validation")


def test_a_validation_folder_named_directly_is_refused(tmp_path: Path) -> None:
    labels(tmp_path, validation=["c"])
    folder = str(tmp_path / "AU_Detection_Challenge" / "Validation_Set")
    with pytest.raises(UsageError, match="official"):
        training_labels(folder, AU, warn=pytest.fail)
    with pytest.raises(EmobeamError, match="partition"):
        training_labels(str(tmp_path), AU, partition="train", warn=pytest.fail)


def test_validation_videos_among_the_training_ones_are_told(tmp_path: Path) -> None:
    uri = labels(tmp_path, train=["a", "b"], validation=["b", "c"])
    with pytest.raises(EmobeamError, match="'b'"):
        training_labels(uri, AU, warn=pytest.fail)


def test_labels_that_name_no_partition_are_all_taken(tmp_path: Path) -> None:
    labels(tmp_path, train=["a", "b"])
    (tmp_path / "mine").mkdir()
    for file in (tmp_path / "AU_Detection_Challenge" / "Train_Set").iterdir():
        file.rename(tmp_path / "mine" / file.name)
    found, partition = training_labels(str(tmp_path / "mine"), AU, warn=pytest.fail)
    assert ([entry.name for entry in found], partition) == (["a", "b"], "")
