"""The Arrow schemas of everything written: feature shards, indexes, predictions, faces."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

FOOTER_KEY = b"emobeam"
"""Key of the JSON document in a shard's Parquet footer."""

SOURCES = ("sampled", "interpolated", "nearest", "absent")
"""Where the value of a row of a predictions table comes from."""


LAST_FRAME = 1 << 24
"""Largest number of an image in a folder of crops: the numbers between two images are frames as well."""

VECTORS = ("embedding", "scores")
"""The outputs of backbones that are vectors, in the order in which they are stored; all others are maps."""

POINTS = (478, 3)
"""Shape of ``points``: x, y and z of the points of a face's mesh."""

POINTS_PER_PX = 16
"""``points`` are whole numbers of this part of a px: x and y from the centre of the stored box (from the upper left
corner of the picture where there is no box), z from the mesh's own zero, all in px of the frame as shown."""

FACE_SHAPES = 52
"""Length of ``shapes``: how far each expression of the mesh is shown, from 0 to 1."""

MESH = ("points", "shapes", "points_score")
"""The columns of a face's mesh, ``points_score`` being the probability that its points lie on a face."""


def map_column(name: str) -> str:
    """Column of a feature map named by stride: ``s8`` -> ``map_s8``."""
    return f"map_{name}"


def column_of(name: str) -> str:
    """The Parquet column of an input of a head: ``s8`` -> ``map_s8``, ``embedding`` -> ``embedding``."""
    return name if name in (*VECTORS, *MESH) else map_column(name)


def feature_schema(
    map_shapes: Mapping[str, Sequence[int]],
    *,
    embedding: int = 0,
    scores: int = 0,
    crop: bool = False,
    images: bool = False,
    views: bool = False,
    mesh: Collection[str] = (),
) -> pa.Schema:
    """Schema of the rows of a cache as its readers give them: one row per face seen in a sampled frame.

    Files hold tensors in another type, which more programs read (see ``emobeam.emo_transforms.cache.stored_form``).

    Args:
        map_shapes: shape ``(C, H, W)`` of each stored map by name (``s8``, ``s16``, ``s32``).
        embedding, scores: length of these optional vectors; 0 leaves the column out.
        crop: store the encoded crop.
        images: rows come from a folder of crops and name their file.
        views: rows come in several views, 0 being the plain one; only that one has a crop.
        mesh: those of :data:`MESH` that are stored.
    """
    fields = [
        pa.field("video", pa.string(), nullable=False),
        pa.field("track", pa.int16(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        *([pa.field("view", pa.int8(), nullable=False)] if views else []),
        pa.field("time", pa.float64()),
        # Parquet readers choke on null lists of a fixed size, and rows of crop folders have no box.
        pa.field("box", pa.list_(pa.float32(), -1 if images else 4)),
        pa.field("score", pa.float32()),
        pa.field("landmarks", pa.list_(pa.float32(), -1 if images else 10)),
    ]
    if images:
        fields.append(pa.field("image", pa.string()))
    fields += [
        pa.field(map_column(name), pa.fixed_shape_tensor(pa.float16(), tuple(shape)), nullable=False)
        for name, shape in map_shapes.items()
    ]
    if embedding:
        fields.append(pa.field("embedding", pa.list_(pa.float32(), embedding)))
    if scores:
        fields.append(pa.field("scores", pa.list_(pa.float32(), scores)))
    of_mesh = {
        "points": pa.field("points", pa.fixed_shape_tensor(pa.int16(), POINTS), nullable=False),
        "shapes": pa.field("shapes", pa.list_(pa.float32(), FACE_SHAPES)),
        "points_score": pa.field("points_score", pa.float32()),
    }
    fields += [of_mesh[name] for name in MESH if name in mesh]
    if crop:
        fields.append(pa.field("crop", pa.binary()))
    return pa.schema(fields)


def stream_schema(length: int) -> pa.Schema:
    """Schema of a stream of a video: vectors of ``length`` that others computed, one row per step.

    ``time``: of the middle of the step in s, the first displayed frame being at 0; null where no clock is known.
    """
    return pa.schema(
        [
            pa.field("video", pa.string(), nullable=False),
            pa.field("step", pa.int32(), nullable=False),
            pa.field("time", pa.float64()),
            pa.field("vector", pa.list_(pa.float32(), length), nullable=False),
        ]
    )


def predictions_schema(outputs: Sequence[str], *, clip: bool = False) -> pa.Schema:
    """Schema of a predictions table.

    Frame-level tasks: one row per (video, subject, face, native frame); clip-level ones: per (video, subject).
    One float32 column per output, named as the challenge names it; null where nothing was seen.
    """
    values = [pa.field(name, pa.float32()) for name in outputs]
    key = [pa.field("video", pa.string(), nullable=False), pa.field("subject", pa.string(), nullable=False)]
    if clip:
        return pa.schema([*key, *values])
    return pa.schema(
        [
            *key,
            pa.field("face", pa.int16(), nullable=False),
            pa.field("frame", pa.int32(), nullable=False),
            pa.field("time", pa.float64()),
            *values,
            pa.field("source", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        ]
    )


VIDEOS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("segments", pa.int32(), nullable=False),
        pa.field("segments_done", pa.int32(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("sampled", pa.int32(), nullable=False),
        pa.field("lost", pa.int32(), nullable=False),
        pa.field("with_face", pa.int32(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("duration", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("size", pa.int64()),
        pa.field("digest", pa.string()),
        pa.field("coded_width", pa.int32()),
        pa.field("coded_height", pa.int32()),
        pa.field("aspect", pa.string()),
        pa.field("rotation", pa.int16()),
        pa.field("mirrored", pa.bool_()),
        pa.field("interlaced", pa.bool_()),
        pa.field("size_changes", pa.int32()),
        pa.field("clock_changes", pa.int32()),
        pa.field("offset", pa.float64()),
        pa.field("notes", pa.string()),
    ]
)
"""``videos.parquet``: one row per video. ``duration`` in seconds; ``lost`` counts sampled frames that could
not be decoded. ``width`` and ``height`` are those of the picture as shown, what follows ``digest`` says how it came
about: ``aspect`` (width to height of a coded pixel, ``64:45``) is applied first, then the picture is ``mirrored`` (left
and right swapped), then turned by ``rotation`` (clockwise, in degrees). ``offset``: of the first frame in s on the
media's own clock. Null where it isn't known, as in caches of older versions, or where there are no videos."""

PROBES = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("offset", pa.float64(), nullable=False),
        pa.field("coded_width", pa.int32(), nullable=False),
        pa.field("coded_height", pa.int32(), nullable=False),
        pa.field("rotation", pa.int16(), nullable=False),
        pa.field("notes", pa.list_(pa.string()), nullable=False),
    ]
)
"""``probes.parquet``: what looking at each video told beside its shards."""

SEGMENTS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("start", pa.float64(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
        pa.field("first_frame", pa.int32()),
        pa.field("last_frame", pa.int32()),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("sampled", pa.int32(), nullable=False),
        pa.field("lost", pa.int32(), nullable=False),
        pa.field("with_face", pa.int32(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("clipped", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("first_time", pa.float64()),
        pa.field("last_time", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("note", pa.string(), nullable=False),
        pa.field("display", pa.string(), nullable=False),
        pa.field("facts", pa.string(), nullable=False),
    ]
)
"""``segments.parquet``: one row per shard, sorted by video and segment. ``display`` says how decoded
frames became what a player shows (JSON), ``""`` for plain video; ``facts`` what looking at the video told beside that,
``""`` where the shard doesn't tell."""

FACES = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("face", pa.int16(), nullable=False),
        pa.field("person", pa.int16(), nullable=False),
        pa.field("first_frame", pa.int32(), nullable=False),
        pa.field("last_frame", pa.int32(), nullable=False),
        pa.field("first_time", pa.float64()),
        pa.field("last_time", pa.float64()),
        pa.field("sampled", pa.int32(), nullable=False),
        pa.field("box", pa.list_(pa.float32())),
        pa.field("score", pa.float32()),
    ]
)
"""``faces.parquet``: one row per stretch of a person in one role. ``face`` is the number used in the tables
(0 is the main face), ``person`` the stitched identity; ``box`` and ``score`` are means over the stretch."""
