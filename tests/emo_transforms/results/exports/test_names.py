"""Names of exported files."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.results.exports.names import FileNames

IDS = st.tuples(st.text(st.sampled_from("aAb./\\:_ é\ud800\n~"), max_size=6), st.sampled_from(["", "left", "a", "/"]))


def test_ids_stay_readable() -> None:
    names = FileNames(".csv")
    assert names.of("day 1/pair") == "day 1/pair.csv"
    assert names.of("day 1/pair", "left") == "day 1/pair_left.csv"
    assert names.of("14-30-1920x1080") == "14-30-1920x1080.csv"
    assert names.of("../../etc/passwd") == "_/_/etc/passwd.csv"
    assert names.of("con") == "_con.csv"


def test_equal_names_are_told_apart_and_stay() -> None:
    names = FileNames(".csv")
    plain, side = names.of("x_left"), names.of("x", "left")
    assert plain == "x_left.csv"
    assert side.startswith("x_left-")
    assert names.of("x_left") == plain
    assert names.of("X_LEFT") not in (plain, side)


@given(st.lists(IDS, unique=True, max_size=12))
def test_no_two_are_alike_and_none_leaves_the_folder(ids: list[tuple[str, str]]) -> None:
    names = FileNames(".csv")
    paths = [names.of(*each) for each in ids]
    assert len({path.casefold() for path in paths}) == len(ids)
    for path in paths:
        parts = path.split("/")
        assert all(part not in ("", ".", "..") and not part.startswith(".") for part in parts)
        assert not set(path) & set('\\:*?"<>|\n\ud800')


def test_names_fit_into_a_file_system(tmp_path: Path) -> None:
    names = FileNames(".csv")
    long = "\N{CJK UNIFIED IDEOGRAPH-8868}" * 83
    for video in (long, long + "x", "con." + "x" * 300, "\N{GRINNING FACE}" * 70):
        for subject in ("left", "\N{CJK UNIFIED IDEOGRAPH-8868}" * 90):
            for _ in range(2):
                path = tmp_path / names.of(video, subject)
                path.write_text("")
    assert len(list(tmp_path.iterdir())) == 8
