"""Which rows of a table the page keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.prediction.prediction_tables import list_parts, part_uri
from emobeam.emo_transforms.results.report.series import (
    ABSENT,
    INTERPOLATED,
    NEAREST,
    SAMPLED,
    Distribution,
    PartSeries,
    count_values,
    face_series,
    read_series,
    statistics_of,
)
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import SOURCES
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.report.outputs import damage_pages, table_of, write_table

CODES = {"s": SAMPLED, "i": INTERPOLATED, "n": NEAREST, "a": ABSENT}


def series(text: str, *, fps: float = 25.0, timed: bool = True, rate: float = 0.0):  # type: ignore[no-untyped-def]
    """A face whose rows are given by the first letters of their sources."""
    sources = np.array([CODES[letter] for letter in text], np.uint8)
    frames = np.arange(1, len(text) + 1, dtype=np.int32)
    values = np.where(sources == ABSENT, np.nan, frames / 100).astype(np.float32)[:, None]
    times = (frames - 1) / fps if timed else None
    return face_series("", 0, frames, times, sources, values, rate=rate)


def test_usual_interpolation_is_no_stretch() -> None:
    found = series("siiiisiiiisiiiis")
    assert found.stretches == ()
    assert found.frames.tolist() == [1, 6, 11, 16]


def test_a_long_interpolation_is_a_stretch_with_its_ends_kept() -> None:
    found = series("siisiisiis" + "iiiiiiii" + "siis")
    assert [(s.first * 25 + 1, s.last * 25 + 1, s.source) for s in found.stretches] == [(11, 18, INTERPOLATED)]
    assert found.frames.tolist() == [1, 4, 7, 10, 11, 18, 19, 22]


def test_absent_and_nearest_are_stretches_and_absent_rows_have_no_value() -> None:
    found = series("siisiisnnaaannsiisnn")
    marked = [(round(s.first * 25) + 1, round(s.last * 25) + 1, s.source) for s in found.stretches]
    assert marked == [(8, 9, NEAREST), (10, 12, ABSENT), (13, 14, NEAREST), (19, 20, NEAREST)]
    assert np.isnan(found.values[:, 0]).tolist() == (found.sources == ABSENT).tolist()
    assert found.rows == (5, 6, 6, 3)


def test_without_times_the_axis_is_the_frame() -> None:
    found = series("ssaas", timed=False)
    assert found.times is None
    assert found.axis.tolist() == [1, 2, 3, 4, 5]
    assert [(s.first, s.last) for s in found.stretches] == [(3, 4)]


def test_a_rate_thins_evenly_and_tells() -> None:
    found = series("s" * 100, fps=30, rate=10)
    assert len(found.frames) == 34
    assert found.thinned == 66
    assert set(np.diff(found.frames).tolist()) == {3}
    assert series("siiii" * 20, rate=10).thinned == 0


def test_nobody_ever() -> None:
    found = series("aaaa")
    assert found.frames.tolist() == [1, 4]
    assert [(s.first, s.last, s.source) for s in found.stretches] == [(0, 3 / 25, ABSENT)]


@given(st.text("sina", min_size=1, max_size=80))
def test_kept_rows_are_rows_of_the_table_and_every_other_row_is_explained(text: str) -> None:
    found = series(text)
    assert found.frames.tolist() == sorted(set(found.frames.tolist()))
    assert all(CODES[text[frame - 1]] == source for frame, source in zip(found.frames, found.sources, strict=True))
    assert {n for n, letter in enumerate(text, 1) if letter == "s"} <= set(found.frames.tolist())
    covered = {n for s in found.stretches for n in range(round(s.first * 25) + 1, round(s.last * 25) + 2)}
    assert {n for n, letter in enumerate(text, 1) if letter in "na"} <= covered
    assert sum(found.rows) == len(text)


def test_a_table_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    table = table_of("a/b", "va", 30, faces=2, absent=(10, 14))
    write_table(tmp_path, "va", "a/b", table)
    uri = part_uri(str(tmp_path), "va", "a/b")
    part = read_series(list_parts(str(tmp_path)).parts["va"]["a/b"])
    frame = pd.read_parquet(uri)
    assert part.video == "a/b"
    assert [face.face for face in part.faces] == [0, 1]
    for face in part.faces:
        rows = frame[frame["face"] == face.face].set_index("frame").loc[face.frames]
        assert [SOURCES[code] for code in face.sources] == rows["source"].tolist()
        np.testing.assert_array_equal(face.times, rows["time"])
        np.testing.assert_array_equal(face.values, rows[["valence", "arousal"]].to_numpy(np.float32))


def test_damaged_pages_are_told(tmp_path: Path) -> None:
    write_table(tmp_path, "va", "a", table_of("a", "va", 20))
    damage_pages(part_uri(str(tmp_path), "va", "a"))
    with pytest.raises(EmobeamError, match=r"can't be read .*; run emobeam predict again"):
        read_series(list_parts(str(tmp_path)).parts["va"]["a"])


def test_statistics_are_of_all_sampled_rows() -> None:
    found = series("s" * 3000, fps=30, rate=10)
    values = (np.arange(1, 3001) / 100).astype(np.float32)
    assert found.thinned == 2000
    counted = [Distribution("x", 0.0, 30.0)]
    count_values([PartSeries("v", TASKS["va"], (found,))], counted)
    assert (counted[0].rows, counted[0].mean) == (3000, pytest.approx(values.mean(dtype=float)))
    expected = [values.mean(dtype=float), values.std(dtype=float), values.min(), values.max(), (values >= 0.5).mean()]
    ((rows, *figures),) = statistics_of(found.seen)
    assert rows == 3000
    assert figures == pytest.approx(expected, abs=1e-5)
    assert statistics_of(np.full((2, 1), np.nan, np.float32)) == [[0, None, None, None, None, None]]


def test_distributions_agree_with_numpy() -> None:
    values = np.random.default_rng(0).beta(2, 5, 3000).astype(np.float32)
    found = Distribution("AU1", 0.0, 1.0)
    found.add(values[:1000])
    found.add(np.append(values[1000:], np.nan))
    assert found.rows == 3000
    assert found.mean == pytest.approx(values.mean(), abs=1e-6)
    assert found.deviation == pytest.approx(values.std(), abs=1e-5)
    for share in (0.05, 0.5, 0.95):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share), abs=1 / 400)
    assert found.share_from(0.5) == pytest.approx((values >= 0.5).mean())
