from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.networks.heads.fresh_heads import new_head, untrained_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.prediction.smoothing import box_mean
from emobeam.emo_transforms.prediction.windows import (
    Row,
    Window,
    average_overlaps,
    predict_clip,
    predict_frames,
    run_windows,
    windows_of,
)
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import TASKS

SMALL = {"s16": (3, 4, 4), "s32": (4, 2, 2)}
REAL = {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}
OUTPUTS = ("valence", "arousal")


def row(key: int, frame: int, time: float) -> Row:
    return Row(key, frame, time, {"s32": np.full((1, 1, 1), frame, np.float16)})


def real_rows(key: int, times: np.ndarray, shapes: dict[str, Any] = SMALL, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng([seed, key])
    return [
        Row(key, n, float(t), {name: rng.normal(size=shape).astype(np.float16) for name, shape in shapes.items()})
        for n, t in enumerate(times, 1)
    ]


def head(shapes: dict[str, Any] = SMALL, scope: str = "frame", form: str = "frame", **options: Any) -> Head:
    final = 960 if shapes is REAL else 6
    return untrained_head(
        "va", OUTPUTS, scope, "tanh", "f00d", shapes, form=form, final_channels=final, **{"time_patch": 2, **options}
    )


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Rows of up to four faces that come and go over up to 60 sampled frames."""
    rows, time = [], 0.0
    for frame in range(1, draw(st.integers(0, 60)) + 1):
        time += draw(st.sampled_from([1 / 6, 1 / 6, 1 / 6, 0.5, 0.51, 2.0]))
        rows += [row(key, frame, time) for key in range(4) if draw(st.integers(0, 9)) < 8]
    return rows


def expected_windows(rows: list[Row], key: int, length: int, step: int, gap: float) -> list[list[int]]:
    """Frames of each window, by looking at the whole stream."""
    runs: list[list[Row]] = []
    for one in (r for r in rows if r.key == key):
        if runs and one.time - runs[-1][-1].time <= gap + 1e-6:
            runs[-1].append(one)
        else:
            runs.append([one])
    windows = []
    for run in runs:
        start, covered = 0, 0
        while covered < len(run):
            windows.append([r.frame for r in run[start : start + length]])
            covered = start + length
            start += step
    return windows


@given(streams(), st.integers(1, 8), st.integers(0, 8))
def test_windows_are_those_of_the_whole_stream(rows: list[Row], length: int, stride: int) -> None:
    stride = min(stride, length)
    windows = list(windows_of(rows, length, stride, 0.5))
    for key in range(4):
        found = [list(w.frames) for w in windows if w.key == key]
        assert found == expected_windows(rows, key, length, stride or length, 0.5)
    time_of = {(r.key, r.frame): r.time for r in rows}
    for window in windows:
        assert window.times == tuple(time_of[window.key, frame] for frame in window.frames)
        content = window.maps["s32"][:, 0, 0, 0].tolist()
        assert content == [*window.frames, *[window.frames[-1]] * (length - window.valid)]


@given(streams(), st.integers(1, 8), st.integers(0, 8))
def test_invariants_of_windows(rows: list[Row], length: int, stride: int) -> None:
    windows = list(windows_of(rows, length, min(stride, length), 0.5))
    covered = {(w.key, frame) for w in windows for frame in w.frames}
    assert covered == {(r.key, r.frame) for r in rows}
    assert all((np.diff(w.times) <= 0.5 + 1e-6).all() for w in windows)
    assert all(1 <= w.valid <= length for w in windows)
    last: dict[Any, Window] = {}
    for window in windows:  # a padded window ends its run: the next one of that key starts beyond the gap
        before = last.get(window.key)
        assert before is None or before.valid == length or window.times[0] - before.times[-1] > 0.5
        last[window.key] = window
    if stride in (0, length):
        assert sum(w.valid for w in windows) == len(rows)


def test_memory_is_bounded_and_lost_faces_are_let_go() -> None:
    taken = 0

    def stream() -> Iterator[Row]:
        nonlocal taken
        for frame in range(1, 1000):
            taken += 1
            yield row(frame // 10, frame, frame / 6)  # a new face every ten frames

    furthest = 0
    for window in windows_of(stream(), 8, 0, 0.5):
        furthest = max(furthest, taken - window.frames[-1])
    assert furthest <= 5  # a tail leaves once the stream is 0.5 s past it


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, 1, 1.0), row(1, 2, 0.5)], "comes after a row at"),
        ([row(0, 1, 1.0), row(0, 1, 1.0)], "frame 1 of 0 comes after frame 1"),
        ([row(0, 2, 1.0), row(0, 1, 1.0)], "frame 1 of 0 comes after frame 2"),
        ([row(0, 1, float("nan"))], "at nan s"),
    ],
)
@pytest.mark.parametrize("length", [1, 8])
def test_disorder_is_refused(rows: list[Row], message: str, length: int) -> None:
    with pytest.raises(ValueError, match=message):
        list(windows_of(rows, length, 0, 0.5))


def test_a_stride_that_leaves_rows_out_is_refused() -> None:
    with pytest.raises(UsageError, match="--stride 9"):
        list(windows_of([], 8, 9, 0.5))


@pytest.mark.parametrize("form", ["clip", "frame"])
def test_a_result_does_not_depend_on_neighbours_position_or_threads(form: str) -> None:
    made = head(REAL, form=form, time_patch=4)
    windows = list(windows_of(real_rows(0, np.arange(24) / 6, REAL), 8, 0, 0.5))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 0, 0], [1], [2, 2]):
                run = run_windows(made, [windows[i] for i in order], kernel_batch=4, device="cpu")
                results += [(i, values) for i, (_, values) in zip(order, run, strict=True)]
    finally:
        torch.set_num_threads(threads)
    first = dict(reversed(results))
    assert all(np.array_equal(values, first[i]) for i, values in results)
    assert not np.array_equal(first[0], first[1])


def test_results_are_those_of_the_plain_module() -> None:
    made = head()
    windows = list(windows_of(real_rows(0, np.arange(21) / 6), 8, 0, 0.5))
    results = list(run_windows(made, iter(windows), kernel_batch=2, device="cpu"))
    assert [window for window, _ in results] == windows
    assert [values.shape for _, values in results] == [(8, 2), (8, 2), (5, 2)]
    for window, values in results:
        batch = {name: torch.from_numpy(maps).float()[None] for name, maps in window.maps.items()}
        expected = made.module(batch)[0].tanh().detach().numpy()
        np.testing.assert_allclose(values, expected[: window.valid], atol=1e-6)


@given(streams(), st.integers(1, 6), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_overlaps_are_averaged(rows: list[Row], length: int, stride: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = windows_of(rows, length, min(stride, length), 0.5)
    results = [(w, rng.normal(size=(w.valid, 2)).astype(np.float32)) for w in windows]
    averages = average_overlaps(results)
    assert {(k, f) for k, (frames, _, _) in averages.items() for f in frames} == {(r.key, r.frame) for r in rows}
    for key, (frames, times, values) in averages.items():
        assert (frames.dtype, times.dtype, values.dtype) == (np.int32, np.float64, np.float32)
        assert (np.diff(frames) > 0).all()
        for frame, time, value in zip(frames, times, values, strict=True):
            seen = [v[w.frames.index(frame)] for w, v in results if w.key == key and frame in w.frames]
            np.testing.assert_allclose(value, np.mean(seen, axis=0), atol=1e-6)
            assert time == next(r.time for r in rows if (r.key, r.frame) == (key, frame))


def interleaved(*faces: list[Row]) -> list[Row]:
    return sorted((r for face in faces for r in face), key=lambda r: r.time)


@pytest.mark.parametrize("stride", [0, 3])
def test_faces_are_predicted_each_as_if_alone(stride: int) -> None:
    made = head()
    one = real_rows(1, np.arange(21) / 6)
    two = real_rows(2, np.array([0.0, 0.3, 0.4, 3.0, 3.1]))
    config = PredictConfig(stride=stride, kernel_batch=4)
    both = predict_frames(made, interleaved(one, two), config)
    for key, face in ((1, one), (2, two)):
        frames, values = predict_frames(made, face, config)[key]
        assert frames.tolist() == [r.frame for r in face]
        assert values.shape == (len(face), 2)
        assert np.array_equal(both[key][0], frames)
        assert np.array_equal(both[key][1], values)


def test_values_beyond_a_gap_do_not_matter() -> None:
    made = head()
    times = np.concatenate([np.arange(11) / 6, 10 + np.arange(5) / 6])
    rows, config = real_rows(0, times), PredictConfig(kernel_batch=4)
    _, values = predict_frames(made, rows, config)[0]
    assert np.array_equal(values[:11], predict_frames(made, rows[:11], config)[0][1])
    assert np.array_equal(values[11:], predict_frames(made, rows[11:], config)[0][1])


def test_a_head_that_asks_for_smoothing_gets_it() -> None:
    plain = head()
    config = plain.config.__class__(**{**plain.config.__dict__, "smoothing": 2})
    times = np.concatenate([np.arange(11) / 6, 10 + np.arange(5) / 6])
    rows = real_rows(0, times)
    _, raw = predict_frames(plain, rows, PredictConfig(kernel_batch=4))[0]
    _, smooth = predict_frames(Head(config, plain.module, ""), rows, PredictConfig(kernel_batch=4))[0]
    assert np.array_equal(smooth, box_mean(raw, times, 2, 0.5))
    assert not np.array_equal(smooth, raw)


def test_a_clip_is_the_mean_and_std_of_its_windows() -> None:
    made = head(scope="clip", form="clip")
    rows = real_rows(0, np.arange(21) / 6)
    found = predict_clip(made, rows, PredictConfig(kernel_batch=2))[0]
    vectors = []
    for start in (0, 8, 16):
        window = rows[start : start + 8]
        padded = window + [window[-1]] * (8 - len(window))
        batch = {name: torch.from_numpy(np.stack([r.maps[name] for r in padded]))[None].float() for name in SMALL}
        vectors += [made.module.vectors(batch)[0].detach().numpy()] * len(window)
    pooled = np.concatenate([np.mean(vectors, axis=0), np.std(vectors, axis=0)])
    weight, bias = (p.detach().numpy() for p in made.module.output.parameters())
    np.testing.assert_allclose(found, np.tanh(weight @ pooled + bias), atol=1e-5)


def test_clips_of_two_faces_are_apart_and_threads_do_not_matter() -> None:
    made = head(scope="clip", form="clip")
    one, two = real_rows(1, np.arange(21) / 6), real_rows(2, np.arange(3) / 6)
    both = predict_clip(made, interleaved(one, two), PredictConfig())
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert np.array_equal(predict_clip(made, one, PredictConfig())[1], both[1])
            assert np.array_equal(predict_clip(made, two, PredictConfig())[2], both[2])
    finally:
        torch.set_num_threads(threads)


def test_no_rows_no_predictions() -> None:
    assert predict_frames(head(), [], PredictConfig()) == {}
    assert predict_clip(head(scope="clip", form="clip"), [], PredictConfig()) == {}


# --- heads that go on from window to window, and heads of single frames ------------------------------------


def vector_rows(key: int, times: np.ndarray) -> list[Row]:
    rng = np.random.default_rng(key)
    return [Row(key, n, float(t), {"embedding": rng.normal(size=7).astype(np.float32)}) for n, t in enumerate(times, 1)]


def other_head(architecture: str, **options: Any) -> Head:
    offer = Offer("f00d", SMALL, {"embedding": 7})
    return new_head(TASKS["va"], offer, architecture=architecture, inputs=("embedding",), **options)


def whole(made: Head, rows: list[Row]) -> np.ndarray:
    """Values of a run as one long window."""
    return made.run({"embedding": np.stack([r.maps["embedding"] for r in rows])[None]})[0]


def test_values_of_a_causal_tcn_do_not_depend_on_where_windows_are_cut() -> None:
    times = np.concatenate([np.arange(41) / 6, 20 + np.arange(7) / 6])
    one, two = vector_rows(1, times), vector_rows(2, np.arange(30) / 6 + 0.05)
    for window in (1, 5, 16, 64):
        made = other_head("tcn", window=window, dim=12)
        found = predict_frames(made, interleaved(one, two), PredictConfig())
        assert found[1][0].tolist() == [r.frame for r in one]
        expected = np.concatenate([whole(made, one[:41]), whole(made, one[41:])])  # it forgets what is before a gap
        np.testing.assert_allclose(found[1][1], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[2][1], whole(made, two), rtol=0, atol=1e-6)


def test_overlapping_windows_of_a_tcn_are_averaged_as_those_of_others() -> None:
    made, rows = other_head("tcn", window=8, dim=12), vector_rows(1, np.arange(12) / 6)
    _, values = predict_frames(made, rows, PredictConfig(stride=4))[1]
    first, second = whole(made, rows[:8]), whole(made, rows[4:])
    np.testing.assert_allclose(values[:4], first[:4], atol=1e-6)
    np.testing.assert_allclose(values[4:8], (first[4:] + second[:4]) / 2, atol=1e-6)
    np.testing.assert_allclose(values[8:], second[4:], atol=1e-6)


@pytest.mark.parametrize("stride", [0, 3])
def test_a_head_of_single_frames_is_the_plain_module(stride: int) -> None:
    made, rows = other_head("frame"), vector_rows(1, np.arange(300) / 6)
    frames, values = predict_frames(made, rows, PredictConfig(stride=stride))[1]
    assert frames.tolist() == list(range(1, 301))
    np.testing.assert_allclose(values, whole(made, rows), rtol=0, atol=1e-6)


def test_a_clip_of_single_frames_sees_each_once() -> None:
    offer = Offer("f00d", {}, {"embedding": 7})
    made = new_head(TASKS["emi"], offer, architecture="clip-statistics")
    rows = vector_rows(1, np.concatenate([np.arange(150) / 6, 60 + np.arange(3) / 6]))
    found = predict_clip(made, rows, PredictConfig())[1]
    vectors = np.stack([r.maps["embedding"] for r in rows])
    assert np.array_equal(found, made.pool(vectors, np.ones(len(rows), np.int64)))
