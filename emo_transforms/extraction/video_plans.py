"""From a video to its segments: fingerprint, probe, sample, cut. Both local and remote runs plan this way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from emobeam.emo_transforms.cache.stored_crops import all_caches, resolve_caches
from emobeam.emo_transforms.inputs.crop_folders import crops_fingerprint, list_crops, resolve_crops
from emobeam.emo_transforms.inputs.people_folders import LAYOUT, clip_named, resolve_people
from emobeam.emo_transforms.inputs.videos import keep_only, resolve_inputs
from emobeam.emo_transforms.storage.downloads import video_copy
from emobeam.emo_transforms.storage.fingerprints import fingerprint, unreadable
from emobeam.emo_transforms.video.sampling import plan_crop_segments, plan_segments
from emobeam.schemas.config import ExtractConfig, SamplingConfig, digest_of
from emobeam.schemas.records import Fingerprint, InputError, Probe, Segment, UsageError, Video

Prober = Callable[[str], Probe]
"""Takes a local path; see ``emobeam.emo_transforms.video.frames.probe_video``."""


def find_videos(
    inputs: Sequence[str],
    source: str = "video",
    *,
    only: str = "",
    videos: str = "",
    warn: Callable[[str], None] = lambda text: None,
) -> list[Video]:
    """The videos that inputs name, sorted by id.

    Inputs that are feature caches stand for the videos whose crops they store (see ``stored_crops``).

    Args:
        source: ``video``, or the layout of folders of crops.
        only: names, or a file of names, that restrict them.
        videos: of crops: a folder with the raw videos that supply time.
        warn: told of folders of crops that give less than they seem to; who looks for known videos needs no word of it.

    Raises:
        UsageError: two inputs have one id, or an input can't be listed (see ``inputs`` and ``crops``).
    """
    if all_caches(inputs):
        if source != "video" or videos:
            raise UsageError(f"{inputs[0]}: a feature cache knows what its crops are; leave out --crops and --videos")
        found = resolve_caches(inputs)
        return keep_only(found, only) if only else found
    if source == "video":
        return resolve_inputs(inputs, only=only)
    if source == LAYOUT:
        if videos:
            raise UsageError("--videos: the rows of a people folder hold their own times; leave it out")
        found = resolve_people(inputs)
    else:
        found = resolve_crops(inputs, source, videos=videos, warn=warn)
    return keep_only(found, only) if only else found


def fingerprint_of(video: Video, config: ExtractConfig) -> Fingerprint:
    """What identifies the content of an input; raises :class:`InputError` where it can't be read."""
    if video.kind == "crops":
        print_ = crops_fingerprint(video, list_crops(video, config.source))
        if video.time_uri:  # whose times a shard holds is part of its content
            raw = fingerprint(video.time_uri)
            print_ = replace(print_, digest=digest_of([print_.digest, raw.size, raw.digest]))
        return print_
    return fingerprint(video.uri)


def plan_video(video: Video, print_: Fingerprint, config: ExtractConfig, probe: Prober) -> list[Segment]:
    """All segments of a video, in order.

    Raises:
        InputError: there is nothing to be had from this input, with stage and reason.
    """
    if video.kind == "crops":
        images = list_crops(video, config.source)
        if not images:
            text = f"{video.uri}: no face images in this folder"
            raise InputError(text, stage="open", reason="empty", permanent=False)
        times = _crop_times(video, config, images[-1][0], probe)
        return plan_crop_segments(video, print_, images, times, config.sampling, config.cache_id)
    if video.kind == "people":
        return plan_people(video, print_, config.sampling, config.cache_id)
    found = _probe(video.uri, print_, probe)
    return plan_segments(video, print_, found, config.sampling, config.cache_id)


def _probe(uri: str, print_: Fingerprint, probe: Prober) -> Probe:
    try:
        with video_copy(uri, print_) as path:
            return probe(path)
    except FileNotFoundError as error:
        raise InputError(f"{uri}: no such file", stage="open", reason="missing", permanent=False) from error
    except OSError as error:
        raise unreadable(uri, error) from error


def _crop_times(video: Video, config: ExtractConfig, last: int, probe: Prober) -> Mapping[int, float] | None:
    if video.time_uri:
        times = _probe(video.time_uri, fingerprint(video.time_uri), probe).times()
        # Organisers' folders hold up to two frames more than a demuxer finds; they get no invented time.
        return dict(enumerate(times, start=1))
    if config.sampling.crops_fps:
        return {frame: (frame - 1) / config.sampling.crops_fps for frame in range(1, last + 1)}
    return None


def plan_people(video: Video, print_: Fingerprint, sampling: SamplingConfig, cache_id: str) -> list[Segment]:
    """The segments of a clip or picture. A single picture is taken whatever the rate.

    Raises:
        InputError: the file can't be read (any more), or no longer holds it.
    """
    clip = clip_named(video)
    file = video.uri.rpartition("/")[2]
    number = clip.name.split("-")[1]
    images = [(frame, f"{file}#{number}-{frame}") for frame in clip.frames.tolist()]
    if clip.times is None:
        still = SamplingConfig(0.0, sampling.segment_seconds, sampling.crops_fps)
        return plan_crop_segments(video, print_, images, None, still, cache_id)
    times = dict(zip(clip.frames.tolist(), clip.times.tolist(), strict=True))
    return plan_crop_segments(video, print_, images, times, sampling, cache_id)


def without_pictures(config: ExtractConfig) -> ExtractConfig:
    """The config of a folder of crops, which needs neither detector nor alignment."""
    return replace(
        config,
        detector=replace(config.detector, name="none"),
        align=replace(config.align, style="given"),
    )
