"""The child process: same pictures, and no way for a decoder to harm its caller."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from emobeam.emo_transforms.video.decoding_process import RING_SLOTS, DecoderProcess, Decoders
from emobeam.emo_transforms.video.frames import decode_frames, probe_video
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import Fingerprint, InputError, Segment, UsageError, Video

Clips = Callable[[str], Path]


def segment_of(path: Path, fps: float = 0.0) -> Segment:
    probe = probe_video(str(path), DecoderConfig())
    return plan_segments(Video("v", str(path)), Fingerprint(1, ""), probe, SamplingConfig(fps), "")[0]


def faulty(name: str, **limits: float) -> DecoderProcess:
    return DecoderProcess(DecoderConfig(name=f"tests.faulty_decoders:{name}", **limits))  # type: ignore[arg-type]


@contextmanager
def hurried(process: DecoderProcess, timeout: float) -> Iterator[None]:
    """A limit of time for a block alone: a child that has just begun may be slow on a busy machine."""
    usual = process.config
    process.config = replace(usual, timeout=timeout)
    try:
        yield
    finally:
        process.config = usual


def wait_until_gone(pid: int, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess(DecoderConfig()) as process:
        yield process


@pytest.mark.parametrize("name", ["portrait.mp4", "rotated_90.mp4", "variable.webm", "two_faces.mp4", "one_frame.mp4"])
def test_same_as_without_the_child(decoder: DecoderProcess, clips: Clips, name: str) -> None:
    path = clips(name)
    assert decoder.probe(str(path)) == probe_video(str(path), DecoderConfig())
    segment = segment_of(path)
    here = list(decode_frames(str(path), segment, DecoderConfig()))
    there = list(decoder.frames(str(path), segment))
    assert [number for number, _ in there] == [number for number, _ in here]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(here, there, strict=True))


def test_pictures_belong_to_the_caller(decoder: DecoderProcess, clips: Clips) -> None:
    path = clips("portrait.mp4")
    (_, first), *rest = decoder.frames(str(path), segment_of(path))
    kept = first.copy()
    assert len(rest) > RING_SLOTS  # every slot was used again
    assert np.array_equal(first, kept)
    first[:] = 0


def test_those_who_decode_alike_have_one_process_while_somebody_holds_it(clips: Clips) -> None:
    decoders = Decoders()
    first = decoders.get(DecoderConfig())
    first.probe(str(clips("portrait.mp4")))
    pid = first.pid
    assert pid is not None
    assert decoders.get(DecoderConfig()) is first
    assert decoders.get(DecoderConfig(timeout=31)) is not first
    del first
    assert wait_until_gone(pid)
    assert decoders.get(DecoderConfig()).pid is None


def test_decord_works_in_the_child(clips: Clips) -> None:
    path = clips("portrait.mp4")
    with DecoderProcess(DecoderConfig(name="decord", memory_mb=2048)) as process:
        assert [number for number, _ in process.frames(str(path), segment_of(path))] == list(range(1, 51))


def test_one_child_serves_many_files(decoder: DecoderProcess, clips: Clips) -> None:
    decoder.probe(str(clips("portrait.mp4")))
    pid = decoder.pid
    for name in ("portrait.mp4", "two_faces.mp4", "one_frame.mp4"):
        list(decoder.frames(str(clips(name)), segment_of(clips(name), fps=6.0)))
    for name in ("empty.mp4", "text.mp4", "audio_only.m4a"):
        with pytest.raises(InputError) as caught:
            decoder.probe(str(clips(name)))
        assert caught.value.stage == "open"
    assert decoder.pid == pid


def test_the_child_imports_neither_torch_nor_beam(decoder: DecoderProcess, clips: Clips) -> None:
    decoder.probe(str(clips("portrait.mp4")))
    assert decoder.pid is not None
    loaded = {Path(mapped.path).name for mapped in psutil.Process(decoder.pid).memory_maps()}
    assert any("avcodec" in name for name in loaded)
    assert not any("torch" in name or "apache_beam" in name for name in loaded)


@pytest.mark.parametrize(
    ("name", "limits", "reason", "permanent"),
    [
        ("crash", {}, "crash", True),
        ("hang", {}, "timeout", False),
        ("eat", {"memory_mb": 200}, "memory", False),
        ("gulp", {"memory_mb": 200}, "memory", False),
        ("stumble", {}, "damaged", True),
    ],
)
def test_misbehaviour_ends_as_an_error_of_that_file(
    clips: Clips, name: str, limits: dict[str, float], reason: str, permanent: bool
) -> None:
    path = clips("portrait.mp4")
    segment = segment_of(path)
    with faulty(name, **limits) as process:
        frames = process.frames(str(path), segment)
        assert next(frames)[0] == 1
        with pytest.raises(InputError) as caught, hurried(process, 0.5 if name == "hang" else 30.0):
            list(frames)
        assert (caught.value.stage, caught.value.reason, caught.value.permanent) == ("decode", reason, permanent)
        assert str(path) in str(caught.value)
        assert len(process.probe(str(path)).pts) == 50  # a new child, where the old one had to go


@pytest.mark.parametrize("name", ["nod_off", "fall"])
def test_a_child_that_stands_still_or_is_killed_is_replaced_once(clips: Clips, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(clips("portrait.mp4"), tmp_path))
    segment = segment_of(path, fps=6.0)
    with DecoderProcess(DecoderConfig()) as plain:
        wanted = list(plain.frames(str(path), segment))
    with faulty(name) as process:
        frames = process.frames(str(path), segment)
        found = [next(frames)]
        with hurried(process, 1.0 if name == "nod_off" else 30.0):
            found += [next(frames) for _ in range(3)]
        found += frames
    assert Path(f"{path}.slept").exists()
    assert [number for number, _ in found] == [number for number, _ in wanted] == list(segment.sampled)
    assert all(np.array_equal(ours, theirs) for (_, ours), (_, theirs) in zip(found, wanted, strict=True))


def test_a_slow_decoder_that_shows_life_is_left_alone(clips: Clips) -> None:
    path = clips("portrait.mp4")
    with faulty("dawdle", timeout=3.0) as process:
        assert len(list(process.frames(str(path), segment_of(path, fps=6.0)))) == 12


def test_time_the_caller_takes_does_not_count(clips: Clips) -> None:
    path = clips("portrait.mp4")
    with DecoderProcess(DecoderConfig()) as process:
        frames = process.frames(str(path), segment_of(path, fps=6.0))
        next(frames)
        with hurried(process, 2.0):
            time.sleep(2.5)
            assert len(list(frames)) == 11


def test_the_child_waits_when_the_ring_is_full(clips: Clips) -> None:
    path = clips("portrait.mp4")
    with faulty("fill_ring") as process:
        frames = process.frames(str(path), segment_of(path))
        _, picture = next(frames)
        assert picture[0, 0, 0] == 1
        time.sleep(0.3)
        assert process.pid is not None
        child = psutil.Process(process.pid)
        before = child.cpu_times().user
        time.sleep(0.3)
        assert child.cpu_times().user - before < 0.1
        for expected in range(2, 200):
            number, picture = next(frames)
            assert number == expected
            assert (picture == expected % 251).all()


def test_leaving_early_leaves_the_process_usable(clips: Clips) -> None:
    path = clips("portrait.mp4")
    segment = segment_of(path)
    with DecoderProcess(DecoderConfig()) as process:
        for number, _ in process.frames(str(path), segment):
            if number == 3:
                break
        assert len(list(process.frames(str(path), segment))) == 50


def test_an_unknown_decoder_is_a_usage_error(clips: Clips) -> None:
    path = clips("portrait.mp4")
    with DecoderProcess(DecoderConfig(name="nonsense")) as process, pytest.raises(UsageError):
        list(process.frames(str(path), segment_of(path)))


def test_ctrl_c_does_not_reach_the_child(clips: Clips) -> None:
    path = clips("portrait.mp4")
    with DecoderProcess(DecoderConfig()) as process:
        process.probe(str(path))
        pid = process.pid
        assert pid is not None
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        time.sleep(0.05)
        assert len(process.probe(str(path)).pts) == 50
        assert process.pid == pid


def test_closing_ends_the_child_and_frees_its_memory(clips: Clips) -> None:
    path = clips("portrait.mp4")
    gc.collect()  # what other tests left open
    before = len(os.listdir("/dev/fd"))
    with DecoderProcess(DecoderConfig()) as process:
        list(process.frames(str(path), segment_of(path)))
        pid = process.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert len(os.listdir("/dev/fd")) == before


PARENT = """
import sys, threading
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import Fingerprint, Video

path, name = sys.argv[1:]
process = DecoderProcess(DecoderConfig(name=name, timeout=1000))
probe = process.probe(path)
segment = plan_segments(Video("v", path), Fingerprint(1, ""), probe, SamplingConfig(0), "")[0]
frames = process.frames(path, segment)
next(frames)
print(process.pid, flush=True)
next(frames)
threading.Event().wait()
"""


@pytest.mark.parametrize("name", ["pyav", "tests.faulty_decoders:hang", "tests.faulty_decoders:fill_ring"])
def test_the_child_dies_with_its_parent_however_it_dies(clips: Clips, name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-c", PARENT, str(clips("portrait.mp4")), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert psutil.pid_exists(pid)
        parent.kill()
    assert wait_until_gone(pid)
