"""The picture as a player shows it: shape of the pixels, flips, quarter turns, sizes that change. Decided here alone.

The order is that of FFmpeg and of players: pixels that aren't square are stretched in the axes of the coded picture,
then the display matrix of the container flips and turns it. Of a stream that changes its size all pictures are placed
in one frame that has the shape of the first and is large enough for each; none is distorted or made smaller.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.video.picture.tones import FORMAT, mapped
from emobeam.schemas.records import CodedSize, Probe, Segment

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Picture = npt.NDArray[np.uint8]
Size = tuple[int, int]

SQUARE = (1, 1)

_BT2020 = 9
_OF_HIGH_RANGE = (2, 10)
"""FFmpeg's numbers (AVColorSpace): what an untold matrix is in high range, and what is near enough to it."""

_SQUARE_WITHIN = Fraction(1, 100)
_LARGEST_ASPECT = 10
_UPRIGHT_WITHIN = 1.0
"""Degrees by which a display matrix may be off a quarter turn without a word."""


def display_matrix(frame: VideoFrame) -> tuple[int, ...]:
    """The nine numbers of a frame's display matrix (16.16 fixed point, row by row), empty where it has none."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    return tuple(np.frombuffer(found, np.int32)[:9].tolist()) if found is not None else ()


def orientation(matrix: Sequence[int]) -> tuple[int, bool, str]:
    """What a display matrix does to the coded picture.

    Returns:
        Clockwise degrees (0, 90, 180, 270) by which it is turned; whether left and right are swapped before that;
        and a note where the angle isn't a quarter turn (the nearest is taken), else ``""``.
    """
    if len(matrix) < 9:
        return 0, False, ""
    a, b, c, d = (float(matrix[place]) for place in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    across, along = math.hypot(a, c), math.hypot(b, d)
    if not across or not along:
        return 0, False, ""  # a matrix of zeros shows nothing; players ignore it
    angle = math.degrees(math.atan2(b / along, a / across)) % 360
    rotation = round(angle / 90) * 90 % 360
    off = min((angle - rotation) % 360, (rotation - angle) % 360)
    note = f"is to be turned by {angle:.0f}°; it was turned by {rotation}°" if off > _UPRIGHT_WITHIN else ""
    return rotation, mirrored, note


def pixel_aspect(ratio: Fraction | None) -> tuple[tuple[int, int], str]:
    """Width to height of a pixel, and a note where what the file says can't be meant.

    Within 1 % of square, unknown, 0, and beyond 10:1 count as square.
    """
    if not ratio or ratio < 0 or abs(ratio - 1) <= _SQUARE_WITHIN:
        return SQUARE, ""
    if not Fraction(1, _LARGEST_ASPECT) <= ratio <= _LARGEST_ASPECT:
        return SQUARE, f"pixels of {ratio.numerator}:{ratio.denominator} can't be meant; they count as square"
    return (ratio.numerator, ratio.denominator), ""


def stretched(width: int, height: int, aspect: tuple[int, int]) -> Size:
    """Width and height of a coded picture with square pixels; one side is stretched, none is ever shrunk."""
    across, along = aspect
    if across > along:
        return (2 * width * across + along) // (2 * along), height
    return width, (2 * height * along + across) // (2 * across)


def common_size(sizes: Iterable[CodedSize]) -> Size:
    """Width and height of the frame, in coded axes, that all pictures of a stream are placed in.

    It has the shape of the first picture, as a player's window has: a face is as large before a change as after it.
    And it is large enough for each picture to lie in it whole, undistorted, at its full resolution or above.
    """
    shown = [stretched(size.width, size.height, size.aspect) for size in sizes]
    first = shown[0]
    larger = max(max(Fraction(width, first[0]), Fraction(height, first[1])) for width, height in shown)
    return math.ceil(first[0] * larger), math.ceil(first[1] * larger)


def turned(size: Size, rotation: int) -> Size:
    """Width and height after so many degrees of quarter turns."""
    return (size[1], size[0]) if rotation in (90, 270) else size


class Shower:
    """Makes the upright RGB pictures of one video from its decoded frames.

    Args:
        look: the probe or a segment of the video: its ``width``, ``height`` (0: as the frames come), ``rotation`` and
            ``display`` say how.
    """

    def __init__(self, look: Probe | Segment) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._rotation = look.rotation
        self._display = look.display
        self._size = turned((look.width, look.height), look.rotation)
        self._starts = [size.frame for size in look.display.sizes]

    def picture(self, number: int, frame: VideoFrame) -> Picture:
        """RGB uint8 [H, W, 3] of frame ``number``."""
        width, height = self._size if all(self._size) else (frame.width, frame.height)
        inner = self._inner(number, frame, width, height)
        # Frames of plain video come out bit by bit as they always did.
        how: dict[str, Any] = {"interpolation": "BICUBIC"} if self._starts else {}
        tones = self._display.tones
        if tones and frame.colorspace in _OF_HIGH_RANGE:
            how["src_colorspace"] = _BT2020
        made = self._reformatter.reformat(
            frame, width=inner[0], height=inner[1], format=FORMAT if tones else "rgb24", threads=1, **how
        )
        rgb = mapped(made, tones) if tones else made.to_ndarray()
        if inner != (width, height):
            placed = np.zeros((height, width, 3), np.uint8)
            left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
            placed[top : top + inner[1], left : left + inner[0]] = rgb
            rgb = placed
        if self._display.mirrored:
            rgb = rgb[:, ::-1]
        upright: Picture = np.ascontiguousarray(np.rot90(rgb, -(self._rotation // 90)))
        return upright

    def _inner(self, number: int, frame: VideoFrame, width: int, height: int) -> Size:
        """Size in which a frame lies in the whole, in coded axes."""
        if not self._starts:
            # Of a plain stream every picture has the size of the first; a damaged one may claim another.
            return width, height
        place = max(bisect_right(self._starts, number) - 1, 0)
        own = stretched(frame.width, frame.height, self._display.sizes[place].aspect)
        if own == (width, height):
            return own
        larger = min(Fraction(width, own[0]), Fraction(height, own[1]))
        return max(1, min(width, round(own[0] * larger))), max(1, min(height, round(own[1] * larger)))
