"""Folders of cropped faces as the organisers hand them out: one folder per video, one image per frame.

Layouts (which number an image's name carries):

    affwild2   ``<name>/00001.jpg``                        the native frame, from 1, padded to five digits
    emi        ``<id>/0.jpg``                              from 0, not padded
    bah        ``<subject>/<visit>/<video>.mp4/frame-0.jpg``   from 0, not padded

Frames in which no face was found have no image; they stay missing.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emobeam.emo_transforms.inputs.crop_layouts import LAYOUTS, CropLayout, is_image
from emobeam.emo_transforms.inputs.listing import (
    below,
    file_sizes,
    has_video_extension,
    leaf_folders,
    walk_files,
)
from emobeam.emo_transforms.inputs.videos import resolve_inputs, unique_videos
from emobeam.emo_transforms.storage import read_bytes
from emobeam.emo_transforms.storage.object_stores import uri_of
from emobeam.schemas.records import Fingerprint, InputError, UsageError, Video
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tables import LAST_FRAME
from emobeam.schemas.wording import counted, in_unicode, noun


def resolve_crops(inputs: Sequence[str], layout: str, *, warn: Callable[[str], None], videos: str = "") -> list[Video]:
    """The videos whose face crops lie below some folders, sorted by id.

    A folder that directly holds images is a video; its id is its path below the root that was named, less
    the extension of a video if it ends in one. Several roots are merged.

    Args:
        inputs: folders (paths or URIs). One that itself holds images is a video called like the folder.
        layout: a key of :data:`LAYOUTS`.
        warn: told of folders without a raw video, and of those without images.
        videos: folder, glob or table of the raw videos, which supply presentation times; ``""`` if there
            are none. The raw video of a crop folder is found by unique path suffix, ``_left`` or ``_right``
            at the end of the name being dropped where no raw video is called so.

    Raises:
        UsageError: an unknown layout, a folder that doesn't exist or holds no images, two folders with one id, or no
            folder of which there is a raw video.
        EmobeamError: a folder can't be read, or several raw videos fit one crop folder.
    """
    _layout(layout)
    if not inputs:
        raise UsageError("no input: name a folder of face crops")
    found = unique_videos(video for each in inputs for video in _crop_folders(each, warn))
    return _with_times(found, videos, warn) if videos else found


def _layout(name: str) -> CropLayout:
    if name not in LAYOUTS:
        raise UsageError(f"--crops {name}: unknown layout; known are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _crop_folders(text: str, warn: Callable[[str], None]) -> list[Video]:
    fs, root, paths = walk_files(text)
    folders = {posixpath.dirname(path) for path in paths if is_image(path)}
    if not folders:
        raise UsageError(f"{text}: holds no images (jpg, jpeg, png)")
    if bare := sorted(below(root, folder) for folder in leaf_folders(fs, root, paths) - folders):
        some = counted(len(bare), "folder")
        warn(f"{text}: {some} without images, which {noun(len(bare), 'gives', 'give')} no rows: {_some(bare)}")
    videos = []
    for folder in sorted(folders):
        name = below(root, folder) or posixpath.basename(root)
        identity = posixpath.splitext(name)[0] if has_video_extension(name) else name
        videos.append(Video(id=in_unicode(identity), uri=uri_of(fs, folder), kind="crops"))
    return videos


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _with_times(crops: Sequence[Video], videos: str, warn: Callable[[str], None]) -> list[Video]:
    raw = {video.id: video.uri for video in resolve_inputs([videos])}
    times: dict[str, str] = {}
    # The crops' root may lie higher than the raw videos': then only the end of an id is a raw video's. Longer
    # ends first, since shorter ones may fit several raw videos.
    pending = {crop.id: crop.id for crop in crops}
    while pending:
        found = match_names(pending.values(), raw).found
        times.update({crop: raw[found[name][0]] for crop, name in pending.items() if name in found})
        shorter = {crop: name.partition("/")[2] for crop, name in pending.items() if name not in found}
        pending = {crop: name for crop, name in shorter.items() if name}
    missing = [crop.id for crop in crops if crop.id not in times]
    if not times:
        raise UsageError(
            f"--videos {videos}: no video there is called as a folder of crops "
            f"({_some(missing)}); it holds {_some(list(raw))}. Name the raw videos, or leave it out, and have no times"
        )
    if missing:
        lacking = f"{len(missing)} of {counted(len(crops), 'crop folder')}"
        warn(f"--videos {videos}: no raw video, so no times, for {lacking}: {_some(missing)}")
    return [replace(crop, time_uri=times.get(crop.id, "")) for crop in crops]


def list_crops(video: Video, layout: str) -> list[tuple[int, str]]:
    """Native frame number (from 1) and file name of each image of a video, in order of frames.

    Hidden files and files that are no images are passed over.

    Raises:
        InputError: the folder is ``missing`` or ``empty`` or can't be read (``io``); an image isn't named as
            the layout has it, or two images have one number (``layout``).
    """
    form = _layout(layout)
    frames: dict[int, str] = {}
    for name in _sizes(video):
        if not is_image(name):
            continue
        match = form.stem.fullmatch(posixpath.splitext(name)[0])
        frame = int(match[1]) - form.first + 1 if match else 0
        if frame > LAST_FRAME:
            raise _wrong_layout(
                f"{video.uri}/{name}: frame {frame}; images are numbered as their video's frames, up to {LAST_FRAME}"
            )
        if frame < 1:
            raise _wrong_layout(f"{video.uri}/{name}: not named like {form.example}; is --crops {layout} right?")
        if frame in frames:
            raise _wrong_layout(f"{video.uri}: {frames[frame]} and {name} have the same number; remove one")
        frames[frame] = name
    if not frames:
        raise InputError(f"{video.uri}: holds no images", stage="open", reason="empty", permanent=True)
    return sorted(frames.items())


def _wrong_layout(message: str) -> InputError:
    return InputError(message, stage="open", reason="layout", permanent=True)


def _sizes(video: Video) -> dict[str, int]:
    try:
        return file_sizes(video.uri)
    except FileNotFoundError as error:
        raise InputError(f"{video.uri}: no such folder", stage="open", reason="missing", permanent=False) from error
    except OSError as error:
        message = f"{video.uri}: can't be read ({error})"
        raise InputError(message, stage="open", reason="io", permanent=False) from error


def crops_fingerprint(video: Video, images: Sequence[tuple[int, str]]) -> Fingerprint:
    """What identifies a folder of crops: the sum of sizes, and the sha256 over sorted names and sizes.

    Args:
        video: the folder.
        images: as :func:`list_crops` gives them.

    Raises:
        InputError: the folder or one of the images is ``missing``, or it can't be read (``io``).
    """
    sizes = _sizes(video)
    digest = hashlib.sha256()
    total = 0
    for name in sorted(name for _, name in images):
        if name not in sizes:
            text = f"{video.uri}/{name}: no such file"
            raise InputError(text, stage="open", reason="missing", permanent=False)
        digest.update(f"{name}\0{sizes[name]}\n".encode())
        total += sizes[name]
    return Fingerprint(size=total, digest=digest.hexdigest())


def read_crop(uri: str) -> tuple[bytes, NDArray[np.uint8]]:
    """An image: the bytes as they lie in the file, and RGB uint8 ``[H, W, 3]``.

    Grey and palette images become RGB, an alpha channel is dropped; the picture is never turned.

    Raises:
        InputError: stage ``open``: ``missing``, or can't be read (``io``); stage ``decode``: ``empty``, or
            ``damaged``, a cut-off image included.
    """
    try:
        data = read_bytes(uri)
    except FileNotFoundError as error:
        raise InputError(f"{uri}: no such file", stage="open", reason="missing", permanent=False) from error
    except OSError as error:
        raise InputError(f"{uri}: can't be read ({error})", stage="open", reason="io", permanent=False) from error
    return data, decode_crop(data, uri)


def decode_crop(data: bytes, name: str) -> NDArray[np.uint8]:
    """An encoded image as RGB uint8 ``[H, W, 3]``, see :func:`read_crop`; ``name`` is for messages."""
    if not data:
        raise InputError(f"{name}: has no content", stage="decode", reason="empty", permanent=True)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    # What Pillow raises depends on the format and on where the damage is.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        message = f"{name}: not a readable image ({error})"
        raise InputError(message, stage="decode", reason="damaged", permanent=True) from error
