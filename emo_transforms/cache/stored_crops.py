"""Another feature cache as input: its stored crops, so that a second backbone needs no decoding and no detection.

Segments, frames, times, boxes, tracks and what was lost carry over; the fingerprint of a video stays that of the
file it came from, so that a run resumes as it would on the videos themselves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import read_dataset, shard_uri
from emobeam.emo_transforms.cache.failures import read_failures
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.cache.shards import read_footer, read_rows
from emobeam.emo_transforms.faces.crops import Picture, crop_five_points, fit_crop, square_box
from emobeam.emo_transforms.inputs.crop_folders import decode_crop
from emobeam.emo_transforms.inputs.listing import asked
from emobeam.emo_transforms.storage import locate
from emobeam.emo_transforms.storage.object_stores import uri_of
from emobeam.emo_transforms.video.sampling import CROPS_PER_SEGMENT
from emobeam.schemas.config import ExtractConfig, OriginConfig, shard_name
from emobeam.schemas.records import EmobeamError, Failure, Fingerprint, InputError, Segment, UsageError, Video

_UNREADABLE = Fingerprint(-1, "")


@dataclass(frozen=True)
class StoredCrops:
    """A cache that stores crops, as far as planning needs it.

    Attributes:
        uri: of the cache.
        prints: fingerprint of each video's content, None where it could never be read.
        shards: names of each video's shards in the order of their segments.
        failures: each video's failure records.
    """

    uri: str
    prints: Mapping[str, Fingerprint | None]
    shards: Mapping[str, tuple[str, ...]]
    failures: Mapping[str, tuple[Failure, ...]]


def is_cache(text: str) -> bool:
    """Whether an input is a feature cache; raises :class:`UsageError` where it can't be looked at."""
    if text.startswith(("http://", "https://")) and "?" in text:
        return False  # a server that ignores what follows answers with the file itself, whatever is asked for below it
    fs, path = locate(text)
    return asked(text, lambda: storage.file_exists(uri_of(fs, f"{path}/dataset.json")))


def all_caches(inputs: Sequence[str]) -> bool:
    """Whether the inputs are feature caches.

    Raises:
        UsageError: some are and others are not.
    """
    caches = [text for text in inputs if is_cache(text)]
    if caches and len(caches) < len(inputs):
        other = next(text for text in inputs if text not in caches)
        raise UsageError(f"{caches[0]} is a feature cache and {other} is not; extract from them in runs of their own")
    return bool(caches)


def resolve_caches(inputs: Sequence[str]) -> list[Video]:
    """The videos of feature caches, failed ones included, sorted by id.

    Raises:
        UsageError: a cache stores no crops, two were made with different settings, or two hold one id.
        EmobeamError: a cache can't be read.
    """
    origin_of(inputs)
    found: dict[str, Video] = {}
    for text in inputs:
        uri = uri_of(*locate(text))
        _, videos = make_index(uri)
        for identity in videos["video"].to_pylist():
            known = found.setdefault(identity, Video(id=identity, uri=uri, kind="cache"))
            if known.uri != uri:
                raise UsageError(
                    f"two inputs have the id '{identity}': it is in {known.uri} and in {uri}; leave one of them out"
                )
    return [found[identity] for identity in sorted(found)]


def origin_of(inputs: Sequence[str]) -> tuple[ExtractConfig, OriginConfig]:
    """With which settings the crops of some caches were made.

    Returns:
        The settings of the first cache, and what a cache made from them notes as its origin.

    Raises:
        UsageError: a cache stores no crops, or they differ in their settings.
        EmobeamError: a cache can't be read.
    """
    datasets = [read_dataset(text) for text in inputs]
    for text, dataset in zip(inputs, datasets, strict=True):
        if "crops" not in dataset.config.store:
            held = ",".join(dataset.config.store)
            raise UsageError(
                f"{text}: this cache holds no crops (only {held}), so no other backbone can look at them; extract from "
                f"the videos again with --store crops,{held} (or --store crops alone)"
            )
    identities = [_cache_id(text) for text in inputs]
    for text, identity in zip(inputs, identities, strict=True):
        if identity != identities[0]:
            raise UsageError(
                f"{inputs[0]} and {text} were made with different settings (cache_id {identities[0]} and {identity}); "
                "extract from each into an output of its own"
            )
    config = datasets[0].config
    return config, OriginConfig(identities[0], config.crop_margin)


def _cache_id(features: str) -> str:
    # What is written, not what today's code would make of these settings.
    return str(storage.read_json(storage.join(features, "dataset.json"))["cache_id"])


def config_from(origin: tuple[ExtractConfig, OriginConfig], new: ExtractConfig) -> ExtractConfig:
    """The settings of a run over stored crops: how crops were made is the origin's, the rest is ``new``'s.

    Args:
        origin: see :func:`origin_of`.
        new: its ``align`` says how the crops are to be cut for the network.

    Raises:
        UsageError: the crops can't be aligned that way.
    """
    old, noted = origin
    align = new.align
    if old.source != "video":
        if align.style == "5pt":
            raise UsageError("--align 5pt needs landmarks; crops of folders come without, leave it out")
        align = old.align
    elif align.margin > noted.margin + 1e-9:
        raise UsageError(
            f"--margin {align.margin:g}: the stored crops were cut with a margin of {noted.margin:g}; "
            "a wider one needs the videos again"
        )
    made = {name: getattr(old, name) for name in ("source", "sampling", "decoder", "detector")}
    return replace(new, **made, align=align, origin=noted)


def read_stored(uri: str) -> StoredCrops:
    """Looks through a cache's index and failure records."""
    segments, videos = make_index(uri)
    prints: dict[str, Fingerprint | None] = {}
    for row in videos.to_pylist():
        readable = row["size"] is not None and row["size"] >= 0
        prints[row["video"]] = Fingerprint(row["size"], row["digest"]) if readable else None
    shards: dict[str, list[str]] = defaultdict(list)
    for row in segments:  # sorted by video and segment
        if prints[row["video"]] == Fingerprint(row["size"], row["digest"]):
            shards[row["video"]].append(row["shard"])
    failures: dict[str, list[Failure]] = defaultdict(list)
    for failure in read_failures(uri).values():
        failures[failure.video].append(failure)
    return StoredCrops(
        uri,
        prints,
        {video: tuple(names) for video, names in shards.items()},
        {video: tuple(records) for video, records in failures.items()},
    )


def plan_stored(video: Video, stored: StoredCrops, config: ExtractConfig) -> list[Segment]:
    """The segments of a video, one per shard of the cache it lies in.

    Raises:
        InputError: a shard can't be read.
    """
    segments = []
    for name in stored.shards.get(video.id, ()):
        uri = shard_uri(stored.uri, name)
        footer = _footer(uri)
        print_ = Fingerprint(footer.size, footer.digest)
        segments.append(
            Segment(
                video=video,
                fingerprint=print_,
                index=footer.segment,
                count=footer.count,
                start=footer.start,
                frames=footer.frames,
                times=footer.times,
                sampled=footer.sampled,
                width=footer.width,
                height=footer.height,
                note=footer.note,
                origin=uri,
                shard=shard_name(video.id, print_, footer.start, config.cache_id, footer.display),
                display=footer.display,
                facts=footer.facts,
            )
        )
    return segments


def _footer(uri: str) -> Footer:
    try:
        return read_footer(uri)
    except FileNotFoundError as error:
        text = f"{uri}: no longer there"
        raise InputError(text, stage="open", reason="missing", permanent=False) from error
    except OSError as error:
        raise InputError(f"{uri}: can't be read ({error})", stage="open", reason="io", permanent=False) from error
    except EmobeamError as error:
        raise InputError(str(error), stage="open", reason="damaged", permanent=False) from error


def carried_failures(video: Video, stored: StoredCrops, config: ExtractConfig) -> list[Failure]:
    """What the origin could not do, as records of the new cache.

    Frames that could not be decoded need no record here: the footers of the shards tell of them.
    """
    carried = []
    for failure in stored.failures.get(video.id, ()):
        print_ = Fingerprint(failure.size, failure.digest)
        if failure.reason == "lost_frames" or print_ != (stored.prints.get(video.id) or _UNREADABLE):
            continue
        starts = _starts(failure, config) if failure.shards else []
        shards = sorted(shard_name(video.id, print_, start, config.cache_id) for start in starts)
        carried.append(replace(failure, shards=tuple(shards)))
    return carried


def _starts(failure: Failure, config: ExtractConfig) -> list[float]:
    """Where on the grid the segments of a record begin (see ``sampling``), from the native frames they hold."""
    if failure.native_times:
        step = config.sampling.segment_seconds
        return sorted({int(time // step) * step for time in failure.native_times})
    cells = {max(frame - 1, 0) // CROPS_PER_SEGMENT for frame in failure.native_frames}
    return sorted(float(cell * CROPS_PER_SEGMENT + 1) for cell in cells)


def seen_before(segment: Segment) -> dict[int, int]:
    """Sampled frames of a segment that could be decoded, with the number of faces in them.

    Raises:
        InputError: the origin's shard can't be read.
    """
    footer = _footer(segment.origin)
    looked = zip(footer.sampled, footer.decoded, footer.faces, strict=True)
    return {frame: faces for frame, decoded, faces in looked if decoded}


def stored_rows(segment: Segment) -> Iterator[tuple[dict[str, Any], Picture]]:
    """Rows of a segment in the origin's order: the plain columns with the encoded ``crop``, and the crop decoded.

    Raises:
        InputError: the origin's shard, or a crop in it, can't be read.
    """
    try:
        for table in read_rows(segment.origin):
            held = [name for name in _COLUMNS if name in table.column_names]
            for row in table.select(held).to_pylist():
                yield row, decode_crop(row["crop"], f"{segment.origin}: crop of frame {row['frame']}")
    except FileNotFoundError as error:
        text = f"{segment.origin}: no longer there"
        raise InputError(text, stage="open", reason="missing", permanent=False) from error
    except OSError as error:
        text = f"{segment.origin}: can't be read ({error})"
        raise InputError(text, stage="open", reason="io", permanent=False) from error
    except InputError:
        raise
    except EmobeamError as error:
        raise InputError(str(error), stage="decode", reason="damaged", permanent=False) from error


_COLUMNS = ("video", "track", "frame", "time", "box", "score", "landmarks", "image", "crop")


def network_crop(
    stored: Picture,
    box: NDArray[np.float32] | None,
    landmarks: NDArray[np.float32] | None,
    config: ExtractConfig,
) -> Picture:
    """What the backbone sees of a stored crop, RGB uint8 [input_size, input_size, 3].

    With crops in the store the first run takes this way as well, so that another run over them sees the same bits.
    ``square`` is the crop resized, or its inner part where the margin is narrower than the stored one; ``5pt`` warps
    by the landmarks, with black where the aligned crop reaches beyond the stored square.

    Args:
        stored: a square about ``box`` with ``config.crop_margin`` at the resolution of the frame (see
            ``faces.source_crop``), or an image of a folder of crops.
        box, landmarks: float32 [4] and [10] in px of the frame; None for folders of crops.
    """
    align, size = config.align, config.backbone.input_size
    if box is None or landmarks is None:
        return fit_crop(stored, size)
    left, top, edge = square_box(box, config.crop_margin)
    corner = np.array([round(left), round(top)])
    if align.style == "5pt":
        points = landmarks.astype(np.float64).reshape(5, 2) - corner
        return crop_five_points(stored, points.astype(np.float32), size)
    if align.margin >= config.crop_margin - 1e-9:
        return fit_crop(stored, size)
    left, top, edge = square_box(box, align.margin)
    from emobeam.emo_transforms.faces.resampling import (
        resample_square,  # Numba takes a moment to load; planning never gets here
    )

    # Beyond the stored picture the frame isn't black: its outermost pixels are repeated, as far as the filter reaches.
    reach = math.ceil(max(edge / size, 1.0)) + 1
    padded = np.pad(stored, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    return resample_square(padded, left - corner[0] + reach, top - corner[1] + reach, edge, size)


def same_place(features: str, inputs: Sequence[str]) -> bool:
    """Whether a cache is one of the inputs."""
    return uri_of(*locate(features)) in {uri_of(*locate(text)) for text in inputs}
