"""Small pictures of faces along the axis: which ones, and where they come from.

Pictures come from the cache's ``crop`` column where it stores one, else from the folder of crops or the video file the
cache was made from, if that is still there and unchanged. A picture is only taken where it is plain whose face it is.
"""

from __future__ import annotations

import io
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import shard_uri
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.emo_transforms.extraction.video_plans import fingerprint_of
from emobeam.emo_transforms.faces.crops import Picture, source_crop
from emobeam.emo_transforms.inputs.crop_folders import decode_crop, read_crop
from emobeam.emo_transforms.inputs.people_folders import people_pictures
from emobeam.emo_transforms.results.report.content import Sprite
from emobeam.emo_transforms.results.report.series import SAMPLED, FaceSeries
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.emo_transforms.video.sampling import one_frame
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import EmobeamError, InputError, Video

EDGE = 64
"""Edge of a picture in px: 48 on the page, a little more for fine screens."""

EVERY = 5.0
"""Seconds between two pictures, less where a video is too short for :data:`LEAST` of them, more where it is long."""

LEAST = 8

MOST = 24
"""Pictures of one face of one video, at most."""

FACES = 4
"""Faces of one video with pictures, at most."""

FETCHED = 200_000_000
"""Bytes up to which a video is fetched from a store for its pictures."""

_BYTES = 1100
"""Of one picture in the page, about (64 px WebP, in base64)."""

_PLAIN_MARGIN = 0.5
"""A row is a face's if its box is nearer to the face's mean box than to any other by this share."""


@dataclass(frozen=True)
class Wanted:
    """One picture: of which face, at which place on the axis, and the box (None in folders of crops)."""

    key: tuple[str, int]
    at: float
    frame: int
    box: tuple[float, ...] | None
    shard: str
    row: int
    image: str = ""


@dataclass
class Pictures:
    """Makes the pictures of one video after another; a context manager, since a decoder may run behind it.

    Args:
        features: the cache.
        config: as in its ``dataset.json``.
        shards: names of each video's shards, in order.
        inputs: where the videos lie, by id; those that aren't known are absent.
        per_face: pictures of one face, at most.
        seconds: how long reading and decoding the inputs may take for all videos together.
    """

    features: str
    config: ExtractConfig
    shards: Mapping[str, Sequence[str]]
    inputs: Mapping[str, Video]
    per_face: int = MOST
    seconds: float = 120.0
    _spent: float = 0.0
    _decoder: DecoderProcess | None = field(default=None, repr=False)

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def share(self, videos: int) -> float:
        """Seconds that one video may take while so many are to come: up to twice an even share of what is left."""
        return 2 * max(self.seconds - self._spent, 0.0) / max(videos, 1)

    def of_video(
        self,
        video: str,
        print_: tuple[int | None, str | None],
        faces: Sequence[FaceSeries],
        stretches: Sequence[Mapping[str, Any]],
        share: float,
    ) -> tuple[list[Sprite], str]:
        """The pictures of one video.

        Args:
            print_: size and digest of its file when the cache was made.
            faces: of any of its tables.
            stretches: its rows of ``faces.parquet``.
            share: seconds that decoding may take.

        Returns:
            A sprite per face, and where there is none, why.
        """
        if not faces:
            return [], ""
        stored, known = "crops" in self.config.store, self.inputs.get(video)
        if not stored and known is None:
            return [], "No face pictures: the video is not where it was; name its place with --videos."
        if not stored and min(share, self.seconds - self._spent) <= 0:
            return [], f"No face pictures: those of other videos have taken the {self.seconds:g} s that there are."
        try:
            wanted = self._wanted(video, faces, stretches)
            if not wanted:
                return [], "No face pictures: it is not plain which face they show."
            if known is None or stored:
                return _sprites(self._stored(wanted)), ""
            began = time.monotonic()
            try:
                return self._from_input(known, print_, wanted, began + min(share, self.seconds - self._spent))
            finally:
                self._spent += time.monotonic() - began
        except (EmobeamError, InputError, OSError) as error:
            return [], f"No face pictures: {error}"

    def _wanted(self, video: str, faces: Sequence[FaceSeries], stretches: Sequence[Mapping[str, Any]]) -> list[Wanted]:
        rows = list(self._rows(video))
        by_frame: dict[int, list[Wanted]] = defaultdict(list)
        for row in rows:
            by_frame[row.frame].append(row)
        chosen: list[Wanted] = []
        for face in sorted(faces, key=lambda face: (face.face, face.subject))[:FACES]:
            own = (face.subject, face.face)
            axis = dict(zip(face.frames.tolist(), face.axis.tolist(), strict=True))
            mine = [stretch for stretch in stretches if (stretch["subject"], stretch["face"]) == own]
            plain: dict[int, Wanted] = {}
            for frame in face.frames[face.sources == SAMPLED].tolist():
                about = [stretch for stretch in stretches if _covers(stretch, frame)]
                found = _plainly(by_frame.get(frame, []), [s for s in mine if _covers(s, frame)], about)
                if found is not None:
                    plain[frame] = found
            for frame in _spread(sorted(plain), axis, self.per_face, timed=face.times is not None):
                chosen.append(replace(plain[frame], key=own, at=axis[frame]))
        return chosen

    def _rows(self, video: str) -> Iterator[Wanted]:
        for shard in self.shards.get(video, ()):
            start = 0
            for table in read_rows(shard_uri(self.features, shard), self._columns(["frame", "box"])):
                images = table["image"].to_pylist() if "image" in table.column_names else [""] * len(table)
                boxes, frames = table["box"].to_pylist(), table["frame"].to_pylist()
                for place, (frame, box, image) in enumerate(zip(frames, boxes, images, strict=True)):
                    yield Wanted(("", 0), 0.0, frame, tuple(box) if box else None, shard, start + place, image)
                start += len(table)

    def _columns(self, names: list[str]) -> list[str]:
        return names if self.config.source == "video" else [*names, "image"]

    def _stored(self, wanted: Sequence[Wanted]) -> Iterator[tuple[Wanted, Picture]]:
        by_shard: dict[str, dict[int, list[Wanted]]] = defaultdict(lambda: defaultdict(list))
        for item in wanted:
            by_shard[item.shard][item.row].append(item)
        for shard, rows in by_shard.items():
            start, uri = 0, shard_uri(self.features, shard)
            for table in read_rows(uri, ["crop"]):
                for row in sorted(row for row in rows if start <= row < start + len(table)):
                    data = table["crop"][row - start].as_py()
                    if data:
                        picture = decode_crop(data, f"{uri}: a crop")
                        yield from ((item, picture) for item in rows[row])
                start += len(table)

    def _from_input(
        self, video: Video, print_: tuple[int | None, str | None], wanted: Sequence[Wanted], until: float
    ) -> tuple[list[Sprite], str]:
        now = fingerprint_of(video, self.config)
        if print_[1] is not None and (now.size, now.digest) != print_:
            return [], f"No face pictures: {video.uri} has changed since."
        if video.kind in ("crops", "people"):
            sprites = _sprites(_read_crops(video, wanted, until))
        elif not storage.is_local(video.uri) and now.size > FETCHED:
            text = f"{now.size / 1e6:.0f} MB, too much to fetch for them; name a copy with --videos"
            return [], f"No face pictures: {video.uri} has {text}."
        else:
            with storage.local_copy(video.uri) as path:
                sprites = _sprites(self._decoded(path, video, wanted, until))
        return sprites, "" if sprites else "No face pictures: reading the video took longer than they are worth."

    def _decoded(
        self, path: str, video: Video, wanted: Sequence[Wanted], until: float
    ) -> Iterator[tuple[Wanted, Picture]]:
        """Decodes frame by frame, coarse before fine, so that what there is time for is spread over the video."""
        decoder = self._decoder = self._decoder or DecoderProcess(self.config.decoder)
        probe = decoder.probe(path)
        by_frame: dict[int, list[Wanted]] = defaultdict(list)
        for item in wanted:
            by_frame[item.frame].append(item)
        for frame in _coarse_first(sorted(by_frame)):
            if time.monotonic() > until:
                return
            for _, picture in decoder.frames(path, one_frame(video, probe, frame)):
                for item in by_frame[frame]:
                    if item.box is not None:
                        yield item, source_crop(picture, np.asarray(item.box, np.float32), self.config.align.margin)


def _read_crops(video: Video, wanted: Sequence[Wanted], until: float) -> Iterator[tuple[Wanted, Picture]]:
    read = people_pictures(video) if video.kind == "people" else None
    for item in (wanted[place] for place in _coarse_first(range(len(wanted)))):
        if time.monotonic() > until:
            return
        if item.image:
            yield item, (read(item.image) if read else read_crop(storage.join(video.uri, item.image)))[1]


def pictures_per_face(faces: int, budget: int) -> int:
    """How many pictures each of so many faces may have for a page to stay within a budget of bytes."""
    return int(np.clip(budget // (_BYTES * max(faces, 1)), 3, MOST))


def _spread(frames: Sequence[int], axis: Mapping[int, float], most: int, *, timed: bool) -> list[int]:
    """Of the frames with a face some that lie about evenly over the whole axis."""
    if not frames:
        return []
    first, last = axis[frames[0]], axis[frames[-1]]
    count = int((last - first) // EVERY) + 1 if timed else most
    count = min(max(count, LEAST), most, len(frames))
    places = np.array([axis[frame] for frame in frames])
    targets = first + (np.arange(count) + 0.5) * (last - first) / count
    nearest = np.abs(places[None] - targets[:, None]).argmin(axis=1)
    return [frames[index] for index in np.unique(nearest).tolist()]


def _covers(stretch: Mapping[str, Any], frame: int) -> bool:
    return bool(stretch["first_frame"] <= frame <= stretch["last_frame"])


def _plainly(
    rows: Sequence[Wanted], mine: Sequence[Mapping[str, Any]], about: Sequence[Mapping[str, Any]]
) -> Wanted | None:
    """The row that shows a face at one frame, None where more than one may.

    Tables don't say which row of the cache a value came from; the mean boxes of the faces about at that time tell.

    Args:
        rows: of the cache at that frame.
        mine, about: stretches of ``faces.parquet`` that cover the frame: of this face, and of all.
    """
    if len(rows) == 1 and len({stretch["person"] for stretch in about}) <= 1:
        return rows[0]
    if not rows or len(mine) != 1 or not mine[0]["box"] or any(row.box is None for row in rows):
        return None
    others = [stretch for stretch in about if stretch["box"] and stretch["person"] != mine[0]["person"]]
    near = [(_distance(row.box, mine[0]["box"]), row) for row in rows]
    best, row = min(near, key=lambda pair: pair[0])
    rest = [distance for distance, other in near if other is not row]
    rest += [_distance(row.box, other["box"]) for other in others]
    return row if best <= _PLAIN_MARGIN * min(rest, default=math.inf) else None


def _distance(one: Sequence[float] | None, other: Sequence[float]) -> float:
    """Between the centres of two boxes, in px."""
    a = one or (math.nan,) * 4
    return math.hypot(a[0] + a[2] - other[0] - other[2], a[1] + a[3] - other[1] - other[3]) / 2


def _coarse_first(items: Sequence[int]) -> list[int]:
    """The middle, then the middles of the halves, and so on."""
    order: list[int] = []
    spans = [(0, len(items))]
    while spans:
        first, last = spans.pop(0)
        if first < last:
            middle = (first + last) // 2
            order.append(items[middle])
            spans += [(first, middle), (middle + 1, last)]
    return order


def _sprites(pictures: Iterable[tuple[Wanted, Picture]]) -> list[Sprite]:
    found: dict[tuple[str, int], list[tuple[float, Image.Image]]] = defaultdict(list)
    for item, picture in pictures:
        small = Image.fromarray(picture).resize((EDGE, EDGE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        found[item.key].append((item.at, small))
    sprites = []
    for (subject, face), cells in sorted(found.items()):
        cells.sort(key=lambda cell: cell[0])
        sheet = Image.new("RGB", (EDGE * len(cells), EDGE))
        for place, (_, small) in enumerate(cells):
            sheet.paste(small, (EDGE * place, 0))
        data = io.BytesIO()
        sheet.save(data, "WEBP", quality=62, method=4)
        sprites.append(Sprite(subject, face, data.getvalue(), "image/webp", EDGE, tuple(at for at, _ in cells)))
    return sprites
