"""Times on the media's own clock: written for ELAN and read back, each moved once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.results.media_clock import media_offsets, on_media_clock, since_first_frame
from emobeam.emo_transforms.results.studies.spans import Span, settle
from emobeam.schemas.tables import VIDEOS

RATES = (Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(1000, 33))


@given(
    frame=st.integers(0, 200_000),
    rate=st.sampled_from(RATES),
    offset=st.fractions(-1, 10, max_denominator=90000),
)
def test_there_and_back_a_time_lands_on_its_own_frame(frame: int, rate: Fraction, offset: Fraction) -> None:
    time = float(frame / rate)
    back = since_first_frame(on_media_clock(time, float(offset)), float(offset))
    assert back == pytest.approx(time, abs=2e-9)
    assert on_media_clock(time, 0.0) == time


def test_offsets_are_those_of_the_output_folder(tmp_path: Path) -> None:
    rows = [
        {"video": name, "outcome": "ok", "offset": offset}
        | dict.fromkeys(("segments", "segments_done", "frames", "sampled", "lost", "with_face", "rows"), 0)
        for name, offset in (("late", 0.5), ("old", None))
    ]
    pq.write_table(pa.Table.from_pylist(rows, VIDEOS), tmp_path / "videos.parquet")
    assert media_offsets(str(tmp_path)) == {"late": 0.5}
    pq.write_table(pa.table({"video": ["a"]}), tmp_path / "videos.parquet")  # of an older version
    assert media_offsets(str(tmp_path)) == {}
    assert media_offsets(str(tmp_path / "nowhere")) == {}


def test_stretches_come_in_times_of_the_player_and_go_out_in_those_of_the_tables() -> None:
    spans = settle([Span("late", 1.5, 2.0), Span("plain", 1.5, 2.0)], ["late", "plain"], {"late": 0.5})
    assert [(span.start, span.end) for span in spans.by_video["late"]] == [(1.0, 1.5)]
    assert [(span.start, span.end) for span in spans.by_video["plain"]] == [(1.5, 2.0)]
