"""What is packed comes out again within half a unit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.results.report.pack import STEP, TIME_UNIT, Packer, read_array, unpack


def through(add: str, values: object) -> object:
    packer = Packer()
    packer.add_bytes(b"odd")  # so that nothing lies at a multiple of four
    place = getattr(packer, add)(values)
    document, data = unpack(packer.close({"a": place, "text": "ü </script>"}))
    assert document["text"] == "ü </script>"
    return read_array(document["a"], data)


@given(st.lists(st.one_of(st.none(), st.floats(-60, 60)), max_size=60))
def test_values(values: list[float | None]) -> None:
    given_values = np.array([np.nan if value is None else value for value in values], np.float32)
    found = np.asarray(through("add_values", given_values), np.float64)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(given_values))
    known = ~np.isnan(given_values)
    assert (np.abs(found[known] - given_values[known]) <= STEP / 2 + 1e-6).all()


@given(st.lists(st.integers(-(2**30), 2**30), max_size=60))
def test_whole_numbers_and_bytes(values: list[int]) -> None:
    np.testing.assert_array_equal(through("add_whole", np.array(values, np.int64)), values)
    codes = np.array(values, np.int64) % 4
    np.testing.assert_array_equal(through("add_codes", codes.astype(np.uint8)), codes)


def test_times_of_two_days() -> None:
    times = np.linspace(0, 2 * 24 * 3600, 1000)
    found = np.asarray(through("add_times", times)) * TIME_UNIT
    np.testing.assert_allclose(found, times, atol=TIME_UNIT / 2 + 1e-9)


def test_equal_content_gives_equal_text() -> None:
    def packed() -> str:
        packer = Packer()
        return packer.close({"a": packer.add_values(np.linspace(0, 1, 100))})

    assert packed() == packed()


def test_ten_minutes_of_twelve_outputs_are_small() -> None:
    rng = np.random.default_rng(0)
    packer = Packer()
    columns = [packer.add_values(np.convolve(rng.random(3608), np.ones(9) / 9, "valid")) for _ in range(12)]
    assert len(packer.close({"columns": columns})) < 12 * 3600 * 2
