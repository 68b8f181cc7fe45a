"""Stage 1: from a segment of a video to its shard in the feature cache.

:func:`extract_segment` does it all for one segment, so that neither pictures nor maps cross a Beam stage; the transform
around it is ``emo_transforms.extract``.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_transforms import storage
from emo_transforms.backbones import Backbone, embed, load_backbone
from emo_transforms.cache import shard_uri
from emo_transforms.crops import read_crop
from emo_transforms.decoding import DecoderProcess
from emo_transforms.faces import Detector, Faces, MtcnnDetector, Picture, crop_face, fit_crop, source_crop
from emo_transforms.shards import Footer, ShardWriter
from emo_transforms.tracking import SegmentTracker
from schemas.config import ExtractConfig
from schemas.records import Failure, InputError, Segment, ShardRecord
from schemas.tables import feature_schema, map_column

_DETECT_BYTES = 32_000_000
_DETECT_FRAMES = 8


class Tools:
    """What a worker loads once: the decoding process, the detector, the backbone."""

    def __init__(self, config: ExtractConfig) -> None:
        self.config = config
        self.backbone: Backbone = load_backbone(config.backbone, config.device)
        self.detector: Detector | None = None
        self.decoder: DecoderProcess | None = None
        if config.source == "video":
            self.detector = MtcnnDetector(config.detector, config.device)
            self.decoder = DecoderProcess(config.decoder)

    def close(self) -> None:
        """Ends the decoding process."""
        if self.decoder is not None:
            self.decoder.close()


@dataclass
class _Clock:
    """Wall seconds by step."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start


@dataclass(frozen=True)
class _Row:
    """One seen face: its columns, and the crop for the backbone."""

    columns: Mapping[str, Any]
    crop: Picture


@dataclass
class _Seen:
    """Sampled frames that could be decoded, with the number of faces in them."""

    faces: dict[int, int] = field(default_factory=dict)


def extract_segment(
    segment: Segment,
    tools: Tools,
    features: str,
    progress: Callable[[int], None] = lambda frames: None,
) -> ShardRecord:
    """Decodes, detects, aligns, embeds and writes one segment; the shard appears as a whole or not at all.

    Args:
        features: URI of the cache.
        progress: called with the number of sampled frames looked at since the last call.

    Raises:
        InputError: the segment can't be done; nothing was written.
        OutputError: nothing can be written at all.
    """
    uri = shard_uri(features, segment.shard)
    if storage.exists(uri):
        return ShardRecord(segment.shard, segment.video.id, rows=0, sampled=0, lost=0, bytes=0, existed=True)
    clock = _Clock()
    seen = _Seen()
    rows = _crop_rows if segment.images else _video_rows
    with _picture_source(segment) as path, storage.atomic_file(uri) as temporary:
        writer = ShardWriter(temporary, _schema(segment, tools))
        try:
            _embed_and_write(rows(segment, path, tools, clock, seen, progress), segment, tools, writer, clock)
            with clock("write"):
                writer.close(_footer(segment, tools.config, writer, seen))
        except BaseException:
            writer.abandon()
            raise
    return ShardRecord(
        shard=segment.shard,
        video=segment.video.id,
        rows=writer.rows,
        sampled=len(segment.sampled),
        lost=len(segment.sampled) - len(seen.faces),
        bytes=storage.size(uri),
        seconds=dict(clock.seconds),
    )


@contextmanager
def _picture_source(segment: Segment) -> Iterator[str]:
    if segment.images:
        yield segment.video.uri
        return
    copy = storage.local_copy(segment.video.uri)
    try:
        path = copy.__enter__()
    except FileNotFoundError as error:
        text = f"{segment.video.uri}: no longer there"
        raise InputError(text, stage="open", reason="missing", permanent=False) from error
    except OSError as error:
        text = f"{segment.video.uri}: can't be read ({error})"
        raise InputError(text, stage="open", reason="io", permanent=False) from error
    try:
        yield path
    finally:
        copy.__exit__(None, None, None)


def _video_rows(
    segment: Segment, path: str, tools: Tools, clock: _Clock, seen: _Seen, progress: Callable[[int], None]
) -> Iterator[_Row]:
    config = tools.config
    assert tools.decoder is not None
    assert tools.detector is not None
    times = dict(zip(segment.frames, segment.times, strict=True))
    tracker = SegmentTracker()
    for batch in _batches(tools.decoder.frames(path, segment), clock):
        with clock("detect"):
            found = tools.detector.detect([picture for _, picture in batch])
        for (frame, picture), faces in zip(batch, found, strict=True):
            seen.faces[frame] = len(faces)
            with clock("align"):
                rows = _aligned(segment, config, frame, times[frame], picture, faces, tracker)
            yield from rows
        progress(len(batch))


def _batches(frames: Iterator[tuple[int, Picture]], clock: _Clock) -> Iterator[list[tuple[int, Picture]]]:
    """Frames in groups small enough for the memory and large enough for a batching detector."""
    batch: list[tuple[int, Picture]] = []
    while True:
        with clock("decode"):
            item = next(frames, None)
        if item is not None:
            batch.append(item)
        full = batch and (len(batch) == _DETECT_FRAMES or len(batch) * batch[0][1].nbytes >= _DETECT_BYTES)
        if full or (item is None and batch):
            yield batch
            batch = []
        if item is None:
            return


def _aligned(
    segment: Segment,
    config: ExtractConfig,
    frame: int,
    seconds: float,
    picture: Picture,
    faces: Faces,
    tracker: SegmentTracker,
) -> list[_Row]:
    """The rows of one frame in the order of their tracks."""
    tracks = tracker.update(seconds, faces.boxes, faces.scores)
    rows = []
    for index in np.argsort(tracks).tolist():
        box, size = faces.boxes[index], config.backbone.input_size
        columns = _face_columns(segment, frame, seconds, tracks[index], faces, index)
        if "crops" in config.store:
            columns["crop"] = _png(source_crop(picture, box, config.align.margin))
        rows.append(_Row(columns, crop_face(picture, box, faces.landmarks[index], config.align, size)))
    return rows


def _face_columns(segment: Segment, frame: int, seconds: float, track: int, faces: Faces, index: int) -> dict[str, Any]:
    return {
        "video": segment.video.id,
        "track": track,
        "frame": frame,
        "time": seconds,
        "box": faces.boxes[index],
        "score": faces.scores[index],
        "landmarks": faces.landmarks[index].reshape(10),
    }


def _png(crop: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _crop_rows(
    segment: Segment, folder: str, tools: Tools, clock: _Clock, seen: _Seen, progress: Callable[[int], None]
) -> Iterator[_Row]:
    config = tools.config
    images = dict(zip(segment.frames, segment.images, strict=True))
    times = dict(zip(segment.frames, segment.times, strict=False))
    for frame in segment.sampled:
        try:
            with clock("decode"):
                data, picture = read_crop(storage.join(folder, images[frame]))
        except InputError as error:
            if not error.permanent:
                raise
            progress(1)
            continue
        seen.faces[frame] = 1
        columns: dict[str, Any] = {
            "video": segment.video.id,
            "track": 0,
            "frame": frame,
            "time": times.get(frame),
            "box": None,
            "score": None,
            "landmarks": None,
            "image": images[frame],
        }
        if "crops" in config.store:
            columns["crop"] = data
        with clock("align"):
            crop = fit_crop(picture, config.backbone.input_size)
        yield _Row(columns, crop)
        progress(1)


def _embed_and_write(rows: Iterator[_Row], segment: Segment, tools: Tools, writer: ShardWriter, clock: _Clock) -> None:
    batch = tools.config.kernel_batch
    pending: list[_Row] = []
    for row in rows:
        pending.append(row)
        if len(pending) == batch:
            _embed_batch(pending, segment, tools, writer, clock)
            pending = []
    if pending:
        _embed_batch(pending, segment, tools, writer, clock)


def _embed_batch(rows: list[_Row], segment: Segment, tools: Tools, writer: ShardWriter, clock: _Clock) -> None:
    config = tools.config
    maps: dict[str, NDArray[np.float32]] = {}
    if "maps" in config.store:
        with clock("embed"):
            maps = embed(tools.backbone, [row.crop for row in rows], config.maps, config.kernel_batch)
    columns: dict[str, Any] = {name: [row.columns[name] for row in rows] for name in rows[0].columns}
    columns.update({map_column(name): values for name, values in maps.items()})
    with clock("write"):
        try:
            writer.add(columns)
        except InputError as error:
            text = f"{segment.video.uri}: {error} (segment {segment.index})"
            raise InputError(text, stage=error.stage, reason=error.reason, permanent=error.permanent) from error


def _schema(segment: Segment, tools: Tools) -> Any:
    config = tools.config
    names = config.maps if "maps" in config.store else ()
    shapes = {name: tools.backbone.map_shapes[name] for name in names}
    return feature_schema(shapes, crop="crops" in config.store, images=bool(segment.images))


def _footer(segment: Segment, config: ExtractConfig, writer: ShardWriter, seen: _Seen) -> Footer:
    return Footer(
        video=segment.video.id,
        size=segment.fingerprint.size,
        digest=segment.fingerprint.digest,
        segment=segment.index,
        count=segment.count,
        start=segment.start,
        frames=segment.frames,
        times=segment.times,
        sampled=segment.sampled,
        decoded=tuple(frame in seen.faces for frame in segment.sampled),
        faces=tuple(seen.faces.get(frame, 0) for frame in segment.sampled),
        rows=writer.rows,
        clipped=writer.clipped,
        width=segment.width,
        height=segment.height,
        note=segment.note,
        features_id=config.features_id,
        cache_id=config.cache_id,
    )


def segment_failure(segment: Segment, error: InputError) -> Failure:
    """The record of a segment that can't be done."""
    return Failure(
        video=segment.video.id,
        uri=segment.video.uri,
        outcome="failed",
        stage=error.stage,
        reason=error.reason,
        message=str(error),
        permanent=error.permanent,
        segments=(segment.index,),
        shards=(segment.shard,),
        frames=segment.sampled,
        native_frames=segment.frames,
        native_times=segment.times,
        size=segment.fingerprint.size,
        digest=segment.fingerprint.digest,
    )


def without_pictures(config: ExtractConfig) -> ExtractConfig:
    """The config of a folder of crops, which needs neither detector nor alignment."""
    return replace(
        config,
        detector=replace(config.detector, name="none"),
        align=replace(config.align, style="given"),
    )
