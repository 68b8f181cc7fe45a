"""The small frozen records that cross stages. Pictures and feature maps never do."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from emobeam.schemas.wording import without_secrets

Outcome = Literal["ok", "no_face", "partial", "failed"]
SourceKind = Literal["video", "crops", "people", "cache"]


class EmobeamError(Exception):
    """A mistake the user can mend: bad arguments, a cache and a head that don't fit, a full disk.

    The message names the file or option, what is wrong and what to do. Secrets in addresses are left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class UsageError(EmobeamError):
    """The command itself makes no sense as given (exit code 2)."""


class InputError(EmobeamError):
    """One input can't be used; the others are not concerned.

    Attributes:
        stage: where it happened: ``open``, ``probe``, ``decode``, ``detect``, ``embed``, ``write``.
        reason: a word: ``missing``, ``empty``, ``no_video``, ``no_frames``, ``damaged``, ``unsupported``, ``timeout``,
            ``memory``, ``crash``, ``too_large``, ``io``, ``nan``, ``changed``.
        permanent: a second try on the same bytes would end the same way.
    """

    def __init__(self, message: str, *, stage: str, reason: str, permanent: bool) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason
        self.permanent = permanent

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:  # exceptions with keyword arguments have none of use
        return partial(InputError, stage=self.stage, reason=self.reason, permanent=self.permanent), (str(self),)


@dataclass(frozen=True)
class Video:
    """One input: a video file, a folder of face crops of one video, or a clip in a people folder.

    Attributes:
        id: path below the input root without extension, ``/`` kept. Text, always.
        uri: where it lies (anything fsspec can open).
        kind: ``video``, ``crops``, ``people`` (rows of a person's file, see ``.inputs.people_folders``) or
            ``cache`` (crops stored in another cache).
        subject: who is meant (``left``, ``right``, a name), several separated by commas (``,left``: the main face
            and the left one); ``""`` if no one was named.
        time_uri: for crops: the video that supplies presentation times, else ``""``.
    """

    id: str
    uri: str
    kind: SourceKind = "video"
    subject: str = ""
    time_uri: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the content of an input: size in bytes and a sha256.

    That of a video file is of its first and last 256 kB, that of a folder of crops of file names and sizes.
    """

    size: int
    digest: str


@dataclass(frozen=True)
class CodedSize:
    """The size in which pictures are coded, from one frame on.

    Attributes:
        frame: number of the first frame that has it.
        width, height: as coded, in px.
        aspect: width to height of one coded pixel; (1, 1) where it counts as square.
    """

    frame: int
    width: int
    height: int
    aspect: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Display:
    """What beside a turn (``rotation``) makes decoded frames what a player shows; the default is plain video.

    Attributes:
        sizes: coded sizes in the order of the frames; empty where there is one, and pixels are square.
        mirrored: left and right of the coded picture are swapped before it is turned.
        interlaced: the two fields of a frame show different moments, so whole pictures are made of them.
        stream: index of the stream in its container where it isn't the one that FFmpeg takes for the best; else -1.
        clock: (frame, ms) where the clock was set anew: the first frame after it, how much its time was moved.
        tones: how high dynamic range is coded (``PQ``, ``HLG``), which is mapped to standard range; else ``""``.
        silent: packets without a picture were found, and frames counted without them.
    """

    sizes: tuple[CodedSize, ...] = ()
    mirrored: bool = False
    interlaced: bool = False
    stream: int = -1
    clock: tuple[tuple[int, int], ...] = ()
    tones: str = ""
    silent: bool = False

    @property
    def plain(self) -> bool:
        """Nothing but a turn is to be done."""
        return self == Display()


@dataclass(frozen=True)
class VideoFacts:
    """What looking at a video told that its shards don't hold.

    Attributes:
        offset: time of the first frame on the media's own clock in s, the container's beginning being at 0.
        coded: width and height of the first picture as coded, in px.
        rotation: see :class:`Probe`.
        notes: what people have to know of how the video was read.
    """

    offset: float = 0.0
    coded: tuple[int, int] = (0, 0)
    rotation: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """What demuxing a whole video tells, without decoding it.

    Attributes:
        pts: presentation time stamps of the displayed frames, ascending, in units of ``time_base``.
            Frame ``n`` (1-based) is ``pts[n - 1]``; its time is ``(pts[n - 1] - pts[0]) * time_base`` s.
        time_base: numerator and denominator of the unit of ``pts``, in seconds.
        width, height: of the upright picture, in px.
        rotation: clockwise degrees (0, 90, 180, 270) by which the coded picture is turned to be upright.
        seekable: frames can be matched by ``pts`` after a seek. Where packets carry no usable time stamps
            the file was decoded once instead; ``pts`` then are the decoder's stamps where those ascend, else the
            frames' ranks at the average rate.
        codec, note: FFmpeg's name of the codec; damage met while demuxing, for people, ``""`` if none.
        display: what beside ``rotation`` a player does. Where the clock was set anew, ``pts`` were moved to run on.
        packets: where frames can't be matched by time stamps nor be counted: for each frame the number of the packet
            that holds it, from 0 in the order of the file.
        keys: numbers of the packets at which decoding may begin, as far as ``packets`` are given.
        facts: what is told of the video beside its shards.
    """

    pts: tuple[int, ...]
    time_base: tuple[int, int]
    width: int
    height: int
    rotation: int = 0
    seekable: bool = True
    codec: str = ""
    note: str = ""
    display: Display = Display()
    packets: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    facts: VideoFacts = VideoFacts()

    def times(self) -> list[float]:
        """Presentation times in seconds, the first displayed frame being at 0."""
        if not self.pts:
            return []
        numerator, denominator = self.time_base
        first = self.pts[0]
        return [(pts - first) * numerator / denominator for pts in self.pts]


@dataclass(frozen=True)
class Segment:
    """One unit of work: the frames of one video on one step of a fixed time grid.

    ``frames``, ``times`` and ``pts`` run in parallel and hold *all* native frames of the segment;
    ``sampled`` are the frame numbers to look at. For crops, ``images`` holds the file name of each frame,
    and ``times`` is empty where nothing supplies time. ``start`` is the segment's place on the grid in
    seconds (for crops without time: its first frame number); ``index`` counts from 0 to ``count - 1``.
    """

    video: Video
    fingerprint: Fingerprint
    index: int
    count: int
    start: float
    frames: tuple[int, ...]
    times: tuple[float, ...]
    sampled: tuple[int, ...]
    pts: tuple[int, ...] = ()
    images: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    rotation: int = 0
    seekable: bool = True
    note: str = ""
    origin: str = ""
    """For crops stored in another cache: URI of the shard that holds them."""
    shard: str = ""
    """Name of the shard (see ``config.shard_name``)."""
    zero: int = 0
    """Presentation time stamp of the video's first displayed frame."""
    time_base: tuple[int, int] = (0, 1)
    """Unit of ``pts`` in s: ``times`` are ``(pts - zero) * numerator / denominator``; (0, 1) where that isn't so."""
    display: Display = Display()
    """What beside ``rotation`` makes a decoded frame what a player shows, as far as it concerns these frames."""
    packets: tuple[int, ...] = ()
    """In parallel with ``frames``: see :class:`Probe`."""
    entry: int | None = None
    """Where decoding has to begin: the time stamp of the frame before the first, where that is needed, too; with
    ``packets`` the number of a packet. None: at the beginning, or at any keyframe before."""
    facts: VideoFacts | None = None
    """What looking at the video told beside that."""
    timeline: str = ""
    """Between two stages: URI of a file with what is too long to travel (frames, times, stamps, names of images)."""


@dataclass(frozen=True)
class VideoTask:
    """One input as a worker gets it to look at, with what the launcher knows from index and failure records.

    Attributes:
        complete: contents of which the cache has all shards.
        failed: contents of which nothing can be had, as an earlier run found.
        given_up: names of shards that an earlier run could not make and no later one will.
        content: for crops stored in another cache: what that cache says the content is; else None.
        stored: for crops stored in another cache: names of its shards in the order of their segments.
        there: names of shards of contents that aren't complete.
        carried: another cache could not do all of the video, and its records of that were taken over.
    """

    video: Video
    complete: tuple[Fingerprint, ...] = ()
    failed: tuple[Fingerprint, ...] = ()
    given_up: tuple[str, ...] = ()
    content: Fingerprint | None = None
    stored: tuple[str, ...] = ()
    there: tuple[str, ...] = ()
    carried: bool = False


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """A segment on its way from the step that plans to the process that works, which alone unpacks it.

    Attributes:
        shard: the name of its shard.
        sampled: frames to look at, a measure of the work.
        data: the segment (see ``emobeam.emo_transforms.cache.segment_codec``).
    """

    shard: str
    sampled: int
    data: bytes


@dataclass(frozen=True)
class Looked:
    """What looking at one input found, without its segments.

    Attributes:
        content: None where the input could not be read.
        segments, done: that are to be made, as far as the one who looked knew, and that need no work.
        sampled: sampled frames of ``segments``.
        error: the reason why there is nothing to be had, as a word; ``""`` if there is none.
        facts: of a video that was probed.
        seconds, all_sampled: length of the video and its sampled frames, those done included; 0 where it wasn't probed.
    """

    video: str
    content: Fingerprint | None
    segments: int = 0
    done: int = 0
    sampled: int = 0
    error: str = ""
    facts: VideoFacts | None = None
    seconds: float = 0.0
    all_sampled: int = 0


@dataclass(frozen=True)
class ShardRecord:
    """What became of one segment, as the worker tells it.

    Attributes:
        row: of the index (see ``emobeam.schemas.tables.SEGMENTS``), by column.
        lost: sampled frames that could not be decoded.
        existed: the shard was there already; the record is that of the shard.
        seconds: wall time by step: decode, detect, align, embed, write.
    """

    row: dict[str, Any]
    lost: tuple[int, ...] = ()
    existed: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def shard(self) -> str:
        """Its name."""
        return str(self.row["shard"])

    @property
    def video(self) -> str:
        """Its video's id."""
        return str(self.row["video"])

    @property
    def rows(self) -> int:
        """Faces that it holds, each view counting."""
        return int(self.row["rows"])

    @property
    def sampled(self) -> int:
        """Frames that were looked at."""
        return int(self.row["sampled"])

    @property
    def bytes(self) -> int:
        """Size of its file."""
        return int(self.row["bytes"])


@dataclass(frozen=True)
class VideoFeatures:
    """One unit of work of stage 2: a video in the cache.

    Attributes:
        shards: names of its shards in the order of their segments.
        subjects: who is to be predicted: ``""`` (the main face and the others), ``left``, ``right``, or a name
            with an entry in ``persons``.
        persons: (subject, person) pairs that say who a name means (``--subjects``), by the numbers of
            ``faces.parquet``.
        missing_frames, missing_times: native frames of segments that have no shard, and their times in s.
        sampled: sampled frames, a measure of the work.
    """

    video: str
    shards: tuple[str, ...]
    subjects: tuple[str, ...] = ("",)
    persons: tuple[tuple[str, int], ...] = ()
    missing_frames: tuple[int, ...] = ()
    missing_times: tuple[float, ...] = ()
    sampled: int = 0


@dataclass(frozen=True)
class VideoPredicted:
    """What became of one video in stage 2: ``rows`` written by task (none where all was there), or an ``error``."""

    video: str
    rows: dict[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Failure:
    """Why an input, or a part of it, has no features. Written to ``failures/<name>.json``.

    Attributes:
        permanent: the next run need not try again as long as the bytes stay the same.
        segments: indices of the segments that have no shard; none where the whole video failed before it was
            cut, or where only single frames were lost.
        shards: the names these segments' shards would have had.
        frames: sampled frames that could not be decoded.
        native_frames, native_times: all native frames of these segments and their times in s, so that they have
            rows in the tables even so.
        size, digest: fingerprint of the input; -1 and ``""`` where it could not be read.
    """

    video: str
    uri: str
    outcome: Outcome
    stage: str
    reason: str
    message: str
    permanent: bool
    segments: tuple[int, ...] = ()
    shards: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    native_frames: tuple[int, ...] = ()
    native_times: tuple[float, ...] = ()
    size: int = -1
    digest: str = ""
