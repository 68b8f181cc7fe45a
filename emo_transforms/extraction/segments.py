"""Stage 1: from a segment of a video to its shard in the feature cache.

:func:`extract_segment` does it all for one segment, so that neither pictures nor maps cross a Beam stage; child
processes call it (see ``segment_job``).
"""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import outputs_in, shard_uri
from emobeam.emo_transforms.cache.failures import write_failure
from emobeam.emo_transforms.cache.footers import Footer, segment_row
from emobeam.emo_transforms.cache.segment_codec import expanded
from emobeam.emo_transforms.cache.shards import ShardWriter, read_footer
from emobeam.emo_transforms.cache.stored_crops import network_crop, seen_before, stored_rows
from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.extraction.feature_rows import (
    Clock,
    FeatureRow,
    embed_and_write,
    shard_schema,
    with_views,
)
from emobeam.emo_transforms.extraction.resume_plan import segment_failure
from emobeam.emo_transforms.extraction.video_plans import fingerprint_of
from emobeam.emo_transforms.faces.crops import Detector, Faces, Picture, crop_face, source_crop
from emobeam.emo_transforms.faces.detection.detectors import make_detector
from emobeam.emo_transforms.faces.tracking import SegmentTracker
from emobeam.emo_transforms.inputs.crop_folders import read_crop
from emobeam.emo_transforms.inputs.people_folders import people_pictures
from emobeam.emo_transforms.networks.backbones import Backbone, load_backbone
from emobeam.emo_transforms.storage.downloads import video_copy
from emobeam.emo_transforms.storage.fingerprints import unchanged, unreadable
from emobeam.emo_transforms.video.decoding_process import DecoderProcess, Decoders
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.plain_json import to_text
from emobeam.schemas.records import Failure, InputError, Segment, ShardRecord

DETECT_BYTES = {"cpu": 6_000_000, "cuda": 128_000_000}
"""Pictures a detector is given at once: on a core one of 1080p is enough, a GPU wants more."""

DETECT_FRAMES = 16


class Tools:
    """What a worker loads once: the decoding process, the detector, the backbone; each where it is needed.

    Not for several threads at once; ``lock`` is there to be held.

    Args:
        decoders: where others may have a decoding process already.
    """

    def __init__(self, config: ExtractConfig, decoders: Decoders | None = None) -> None:
        self.config = config
        self.lock = threading.Lock()
        self.backbone: Backbone | None = None
        self.detector: Detector | None = None
        self.decoder: DecoderProcess | None = None
        if outputs_in(config):
            self.backbone = load_backbone(config.backbone, config.device, config.engine)
        if config.source == "video" and not config.origin.cache_id:
            self.detector = make_detector(config.detector, config.engine, config.device)
            self.decoder = (decoders or Decoders()).get(config.decoder)

    def close(self) -> None:
        """Ends the decoding process."""
        if self.decoder is not None:
            self.decoder.close()


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
    if storage.file_exists(uri):
        return _record_of(uri, segment.shard)
    clock = Clock()
    seen = _Seen()
    rows = _stored_rows if segment.origin else _crop_rows if segment.images else _video_rows
    # The source is looked at again before the shard appears.
    with storage.atomic_file(uri) as temporary, _picture_source(segment, tools.config, lambda: progress(0)) as path:
        writer = ShardWriter(temporary, shard_schema(tools.config, tools.backbone))
        try:
            found = with_views(rows(segment, path, tools, clock, seen, progress), tools.config, clock)
            embed_and_write(found, segment, tools.config, tools.backbone, writer, clock)
            with clock("write"):
                footer = _footer(segment, tools.config, writer, seen)
                writer.close(footer)
            nbytes = os.path.getsize(temporary)
        except BaseException:
            writer.abandon()
            raise
    row = segment_row(footer, segment.shard, nbytes)
    return ShardRecord(row, footer.lost, seconds=dict(clock.seconds))


def _record_of(uri: str, shard: str) -> ShardRecord:
    """The record of a shard that another run has made."""
    size = storage.size(uri)
    footer = read_footer(uri, size=size)
    return ShardRecord(segment_row(footer, shard, size), footer.lost, existed=True)


@contextmanager
def _picture_source(segment: Segment, config: ExtractConfig, alive: Callable[[], None]) -> Iterator[str]:
    video = segment.video
    if segment.origin or (segment.images and not storage.is_local(video.uri)):
        yield video.uri
        return
    if segment.images:
        with unchanged(video.uri, segment.fingerprint, lambda: fingerprint_of(video, config)):
            yield video.uri
        return
    with ExitStack() as stack:
        try:
            path = stack.enter_context(video_copy(segment.video.uri, segment.fingerprint, alive))
        except FileNotFoundError as error:
            text = f"{segment.video.uri}: no longer there"
            raise InputError(text, stage="open", reason="missing", permanent=False) from error
        except OSError as error:
            if storage.is_full(error):
                where = tempfile.gettempdir()
                text = f"{where}: no room for a copy of {segment.video.uri}; free some, or set TMPDIR to a larger disk"
                raise storage.OutputError(text) from error
            raise unreadable(segment.video.uri, error) from error
        yield path


def _video_rows(
    segment: Segment, path: str, tools: Tools, clock: Clock, seen: _Seen, progress: Callable[[int], None]
) -> Iterator[FeatureRow]:
    config = tools.config
    decoder, detector = tools.decoder, tools.detector
    if decoder is None or detector is None:
        raise ValueError(f"{segment.video.uri}: a video, and these tools are for faces that are cropped already")
    times = dict(zip(segment.frames, segment.times, strict=True))
    tracker = SegmentTracker()
    detector.start()
    for batch in _batches(decoder.frames(path, segment), clock, DETECT_BYTES[config.device]):
        with clock("detect"):
            found = detector.detect([picture for _, picture in batch], [times[frame] for frame, _ in batch])
        for (frame, picture), faces in zip(batch, found, strict=True):
            seen.faces[frame] = len(faces)
            with clock("align"):
                rows = _aligned(segment, config, frame, times[frame], picture, faces, tracker)
            yield from rows
        progress(len(batch))


def _batches(frames: Iterator[tuple[int, Picture]], clock: Clock, limit: int) -> Iterator[list[tuple[int, Picture]]]:
    """Frames in groups small enough for the memory and large enough for a batching detector."""
    batch: list[tuple[int, Picture]] = []
    while True:
        with clock("decode"):
            item = next(frames, None)
        if item is not None:
            batch.append(item)
        full = batch and (len(batch) == DETECT_FRAMES or len(batch) * batch[0][1].nbytes >= limit)
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
) -> list[FeatureRow]:
    """The rows of one frame in the order of their tracks."""
    tracks = tracker.update(seconds, faces.boxes, faces.scores)
    rows = []
    for index in np.argsort(tracks).tolist():
        box, size = faces.boxes[index], config.backbone.input_size
        columns = _face_columns(segment, frame, seconds, tracks[index], faces, index)
        if "crops" in config.store:
            stored = source_crop(picture, box, config.align.margin)
            columns["crop"] = _png(stored)
            rows.append(FeatureRow(columns, _network_crop(stored, columns, config)))
        else:
            rows.append(FeatureRow(columns, crop_face(picture, box, faces.landmarks[index], config.align, size)))
    return rows


def _network_crop(stored: Picture, columns: Mapping[str, Any], config: ExtractConfig) -> Picture:
    if not outputs_in(config):
        return stored  # nobody looks at it
    return network_crop(stored, columns["box"], columns["landmarks"], config)


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
    segment: Segment, folder: str, tools: Tools, clock: Clock, seen: _Seen, progress: Callable[[int], None]
) -> Iterator[FeatureRow]:
    config = tools.config
    images = dict(zip(segment.frames, segment.images, strict=True))
    times = dict(zip(segment.frames, segment.times, strict=False))
    with clock("decode"):
        read = people_pictures(segment.video) if segment.video.kind == "people" else None
    for frame in segment.sampled:
        try:
            with clock("decode"):
                data, picture = read(images[frame]) if read else read_crop(storage.join(folder, images[frame]))
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
            crop = _network_crop(picture, columns, config)
        yield FeatureRow(columns, crop)
        progress(1)


def _stored_rows(
    segment: Segment, features: str, tools: Tools, clock: Clock, seen: _Seen, progress: Callable[[int], None]
) -> Iterator[FeatureRow]:
    config = tools.config
    seen.faces.update(seen_before(segment))
    rows = stored_rows(segment)
    frame = 0
    while True:
        with clock("decode"):
            item = next(rows, None)
        if item is None:
            break
        columns, picture = item
        if columns["frame"] != frame:
            frame = columns["frame"]
            progress(1)
        if columns["box"] is not None:
            columns["box"] = np.array(columns["box"], np.float32)
            columns["landmarks"] = np.array(columns["landmarks"], np.float32)
        with clock("align"):
            crop = _network_crop(picture, columns, config)
        yield FeatureRow(columns, crop)
    progress(len(segment.sampled) - sum(1 for faces in seen.faces.values() if faces))


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
        display=segment.display,
        facts=segment.facts,
    )


def do_segment(segment: Segment, tools: Tools, features: str, report: Report) -> ShardRecord | Failure:
    """Makes the shard of a segment, or writes the record of why there is none.

    What a store or a disk fails to give is the failure of a segment, which the next run tries again.

    Raises:
        OutputError: nothing can be written at all.
    """
    report("start", {"key": segment.shard})

    def progress(frames: int) -> None:
        report("frames", {"key": segment.shard, "frames": frames})

    try:
        try:
            segment = _expanded(segment)
            record = extract_segment(segment, tools, features, progress)
        except OSError as error:
            if storage.is_full(error):
                raise storage.OutputError(f"{features}: can't be written ({error}); free some space") from error
            raise unreadable(segment.video.uri, error) from error
    except InputError as error:
        failure = segment_failure(segment, error)
        write_failure(features, segment.shard, failure)
        report("failed", {"key": segment.shard})
        return failure
    report("done", {"key": segment.shard, "result": to_text(record)})
    return record


def _expanded(segment: Segment) -> Segment:
    try:
        return expanded(segment, storage.read_bytes)
    except FileNotFoundError as error:  # no failure of the input: its record would outlive the run
        raise storage.OutputError(f"{segment.timeline}: no longer there, so the run it belongs to has ended") from error
