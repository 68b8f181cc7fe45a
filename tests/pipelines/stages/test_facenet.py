"""``--detector facenet`` through the whole of stage 1."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.engines import resolve_engine
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.pipelines.cli import cli
from emobeam.pipelines.requests import extract_request
from emobeam.pipelines.stages.extract import ExtractRequest, run_extract
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.records import UsageError
from tests.benchmarks.material import sampled_frames
from tests.clips import faces_side_by_side, portrait
from tests.pipelines.runs import Told, rows, shards


def asked(*words: Path | str) -> ExtractRequest:
    """What a command line asks of stage 1."""
    args = cli.commands["extract"].make_context("extract", [str(word) for word in words]).params
    return extract_request(args, args["output"])


def found_by_itself(clip: Path, dataset: Dataset) -> dict[int, list[tuple[float, list[float]]]]:
    """Score and box of each face by frame, as facenet-pytorch says of the frames that our decoder gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mtcnn, found = MTCNN(keep_all=True), {}
    decoder = DecoderProcess(dataset.config.decoder)
    try:
        for frame, _, picture in sampled_frames(clip, dataset.config, decoder):
            boxes, scores = mtcnn.detect(picture)
            pairs = [] if boxes is None else zip(scores, boxes, strict=True)
            found[frame] = sorted((float(score), box.tolist()) for score, box in pairs if score >= 0.9)
    finally:
        decoder.close()
        torch.set_num_threads(threads)
    return found


def test_a_cache_holds_exactly_its_boxes(tmp_path: Path, pool: LocalPool) -> None:
    clip = portrait(tmp_path / "pair.mp4", frames=6, painter=lambda number: faces_side_by_side(number, (480, 256)))
    request = asked(clip, "--output", tmp_path / "features", "--detector", "facenet", "--fps", "native")
    assert request.dataset.config.detector.mode == "facenet"
    assert request.dataset.config.engine == resolve_engine("auto", "cpu"), "the backbone's is what it would be anyway"
    told = Told()
    run_extract(replace(request, local=pool.config), told, pool)
    found: dict[int, list[tuple[float, list[float]]]] = {}
    for name in shards(tmp_path / "features"):
        for row in rows(tmp_path / "features" / "shards" / name):
            found.setdefault(row["frame"], []).append((row["score"], row["box"]))
    wanted = found_by_itself(clip, request.dataset)
    assert sum(map(len, wanted.values())) >= 6
    assert {frame: sorted(faces) for frame, faces in found.items()} == {key: one for key, one in wanted.items() if one}
    # What made it is told, and another detector's cache is another.
    kept = (tmp_path / "features" / "dataset.json").read_text()
    assert '"mode": "facenet"' in kept
    other = asked(clip, "--output", tmp_path / "features", "--fps", "native")
    assert other.dataset.config.features_id == request.dataset.config.features_id
    assert other.dataset.config.cache_id != request.dataset.config.cache_id


def test_where_it_is_missing_the_launcher_says_so_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = portrait(tmp_path / "talk.mp4", frames=3)
    words = (clip, "--output", tmp_path / "features", "--detector")
    usual = metadata.version

    def version(name: str) -> str:
        if name == "facenet-pytorch":
            raise metadata.PackageNotFoundError(name)
        return usual(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UsageError, match=r"^--detector facenet: .*pip install --no-deps facenet-pytorch==2\.6\.0$"):
        asked(*words, "facenet")
    assert not (tmp_path / "features").exists()
    asked(*words, "exact")
    people = tmp_path / "crops" / "talk"
    people.mkdir(parents=True)
    (people / "00001.jpg").write_bytes(np.zeros(3, np.uint8).tobytes())
    asked(tmp_path / "crops", "--output", tmp_path / "features", "--crops", "affwild2", "--detector", "facenet")
