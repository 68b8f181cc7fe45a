"""Drawing: boxes, points and numbers on the picture, bars in a panel beside it. Pure, no files.

The panel stands to the right of the picture and hides nothing of it; the picture keeps its place and its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from emobeam.emo_transforms.results.overlay.scene import Bar, Block, Colour, Face, FaceValues, Mark, Scene

Picture = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

UNTRAINED = "UNTRAINED: values mean nothing"

_BACK: Colour = (18, 20, 24)
_TROUGH: Colour = (52, 56, 64)
_INK: Colour = (236, 238, 242)
_FAINT: Colour = (150, 156, 166)
_ALARM: Colour = (200, 30, 40)
_DIM = 0.55

_SMALLEST, _PER_HEIGHT = 11, 36
_STRIP = 3


def font_size(height: int) -> int:
    """Size of the text in px: a 36th of the picture's height, and at least 11."""
    return max(_SMALLEST, round(height / _PER_HEIGHT))


@dataclass(frozen=True)
class _Row:
    """Where one line of the panel goes: of block ``block``, output ``bar``; -1 is the block's title."""

    block: int
    bar: int
    x: int
    y: int


class Canvas:
    """The new picture: how large it is, and where everything goes. Fixed for a clip.

    Attributes:
        width, height: of the new picture in px, both even.
    """

    def __init__(
        self, width: int, height: int, faces: Sequence[Face], blocks: Sequence[Block], *, untrained: bool = False
    ) -> None:
        self._size = (width, height)
        self._blocks = tuple(blocks)
        self._faces = tuple(faces)
        self._untrained = untrained
        self.height = height + height % 2
        size = font_size(height)
        self._font = ImageFont.load_default(size)
        self._line = max(2, round(height / 270))
        self._text = round(size * 1.35)
        self._margin = max(4, size // 2)
        self._strip = max(_STRIP, size // 6, round(size * 0.7 / max(1, len(self._faces))))
        self._pitch = max(self._text, self._strip * len(self._faces) + self._line)
        names = [bar.label for block in blocks for bar in block.bars]
        self._label = max([self._width(name) for name in names], default=0) + self._margin
        self._value = self._width("-0.00")
        self._bar = 7 * size
        titles = max([self._width(_title(block)) for block in blocks], default=0)
        self._column = max(self._label + self._bar + self._margin + self._value, titles)
        self._rows, columns = self._placed()
        panel = columns * (self._column + 2 * self._margin) if blocks else 0
        if panel:
            panel = max(panel, self._header_width() + 2 * self._margin)
        self.width = width + panel + (width + panel) % 2
        self._still = self._panel()

    def paint(self, picture: Picture, scene: Scene) -> Picture:
        """The new picture uint8 [height, width, 3] of an upright RGB picture of the size given at first."""
        width, height = self._size
        canvas = np.empty((self.height, self.width, 3), np.uint8)
        canvas[:height, :width] = picture
        if self.height > height:
            canvas[height:, :width] = picture[-1:]
        if self.width > width:
            canvas[:, width:] = self._still if self._still is not None else canvas[:, width - 1 : width]
        image = Image.fromarray(canvas)
        draw = ImageDraw.Draw(image)
        for mark in scene.marks:
            self._draw_mark(draw, mark)
        if self._untrained:
            self._draw_alarm(draw)
        if self._still is not None:
            self._draw_header(draw, scene)
            for row in self._rows:
                if row.bar >= 0:
                    self._draw_row(draw, row, scene.values)
        return np.asarray(image)

    # --- the picture -----------------------------------------------------------------------------------------

    def _draw_mark(self, draw: ImageDraw.ImageDraw, mark: Mark) -> None:
        colour = mark.face.colour if mark.sampled else _dimmed(mark.face.colour)
        width, height = self._size
        x1, y1, x2, y2 = (round(value) for value in mark.box)
        # A face may reach beyond the picture; its frame is then drawn along the picture's edge.
        x1, x2 = (min(max(x, 0), width - 1) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), height - 1) for y in (y1, y2))
        if x2 <= x1 or y2 <= y1:
            return
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=self._line)
        radius = max(1.5, self._line * 0.8)
        for x, y in mark.points:
            if 0 <= x < width and 0 <= y < height:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        pad = max(2, self._margin // 2)
        wide, high = self._width(mark.face.label) + 2 * pad, self._text
        top = y1 - high if y1 >= high else y1
        left = min(x1, max(0, width - wide))
        draw.rectangle((left, top, left + wide, top + high - 1), fill=mark.face.colour)
        draw.text((left + pad, top + high / 2), mark.face.label, font=self._font, fill=(0, 0, 0), anchor="lm")

    def _draw_alarm(self, draw: ImageDraw.ImageDraw) -> None:
        pad = self._margin
        wide = min(self._size[0], self._width(UNTRAINED) + 2 * pad)
        draw.rectangle((0, 0, wide, self._text + 2), fill=_ALARM)
        draw.text((pad, self._text / 2 + 1), UNTRAINED, font=self._font, fill=(255, 255, 255), anchor="lm")

    # --- the panel -------------------------------------------------------------------------------------------

    def _placed(self) -> tuple[tuple[_Row, ...], int]:
        """Rows of the panel, from top to bottom, in as many columns as they need; a task that fits one isn't cut."""
        top = 2 * self._text + 2 * self._margin
        bottom = self._size[1] - self._margin
        rows: list[_Row] = []
        column, y = 0, top
        for block, content in enumerate(self._blocks):
            if y > top:
                y += self._margin
            whole = self._text + self._pitch * len(content.bars)
            needed = whole if top + whole <= bottom else self._text + self._pitch
            if y > top and y + needed > bottom:
                column, y = column + 1, top
            rows.append(_Row(block, -1, column, y))
            y += self._text
            for bar in range(len(content.bars)):
                if y > top and y + self._pitch > bottom:
                    column, y = column + 1, top
                rows.append(_Row(block, bar, column, y))
                y += self._pitch
        left = self._size[0] + self._margin
        step = self._column + 2 * self._margin
        return tuple(_Row(row.block, row.bar, left + row.x * step, row.y) for row in rows), column + 1

    def _panel(self) -> Picture | None:
        """What stays the same in all frames: names, troughs, thresholds."""
        width = self._size[0]
        if not self._blocks:
            return None
        image = Image.new("RGB", (self.width - width, self.height), _BACK)
        draw = ImageDraw.Draw(image)
        for row in self._rows:
            x, block = row.x - width, self._blocks[row.block]
            if row.bar < 0:
                ink = (255, 120, 120) if block.untrained else _FAINT
                draw.text((x, row.y + self._text / 2), _title(block), font=self._font, fill=ink, anchor="lm")
                continue
            bar = block.bars[row.bar]
            middle = row.y + self._pitch / 2
            draw.text((x, middle), bar.label, font=self._font, fill=_INK, anchor="lm")
            left, top, right, bottom = self._trough(row, x)
            draw.rectangle((left, top, right, bottom), fill=_TROUGH)
            for value in (0.0 if bar.low < 0 < bar.high else None, bar.mark):
                if value is not None:
                    place = self._place(bar, value, left, right)
                    draw.line((place, top - 1, place, bottom + 1), fill=_FAINT)
        return np.asarray(image)

    def _trough(self, row: _Row, x: int) -> tuple[int, int, int, int]:
        high = self._strip * max(1, len(self._faces))
        top = row.y + (self._pitch - high) // 2
        return x + self._label, top, x + self._label + self._bar - 1, top + high - 1

    @staticmethod
    def _place(bar: Bar, value: float, left: int, right: int) -> int:
        share = (min(max(value, bar.low), bar.high) - bar.low) / (bar.high - bar.low)
        return round(left + share * (right - left))

    def _draw_row(self, draw: ImageDraw.ImageDraw, row: _Row, values: Sequence[FaceValues]) -> None:
        block = self._blocks[row.block]
        bar = block.bars[row.bar]
        left, top, right, bottom = self._trough(row, row.x)
        for index, face in enumerate(values):
            found = face.blocks[row.block]
            if found is None:
                continue
            value = float(found[row.bar])
            if np.isnan(value):  # nobody taught the head this output
                continue
            colour = face.face.colour
            sure = face.sources[row.block] == "sampled"
            ends = sorted((self._place(bar, max(0.0, bar.low), left, right), self._place(bar, value, left, right)))
            strip = top + index * self._strip
            draw.rectangle((ends[0], strip, ends[1], strip + self._strip - 1), fill=colour if sure else _dimmed(colour))
        if bar.mark is not None:  # on top, so that it is seen inside a bar
            place = self._place(bar, bar.mark, left, right)
            draw.line((place, top - 1, place, bottom + 1), fill=_INK)
        if not values:
            return
        found = values[0].blocks[row.block]
        text, ink = "-", _FAINT
        if found is not None and not np.isnan(found[row.bar]):
            value = float(found[row.bar])
            text = f"{value:.2f}"
            chosen = any(row.bar in group and row.bar == _highest(found, group) for group in block.choices)
            over = bar.mark is not None and value >= bar.mark
            strong = chosen or over or (bar.mark is None and not block.choices)
            ink = _INK if strong and values[0].sources[row.block] == "sampled" else _FAINT
            if chosen:
                draw.rectangle((left, top, right, bottom), outline=_INK)
        place_x = right + self._margin + self._value
        draw.text((place_x, row.y + self._pitch / 2), text, font=self._font, fill=ink, anchor="rm")

    def _draw_header(self, draw: ImageDraw.ImageDraw, scene: Scene) -> None:
        left, top = self._size[0] + self._margin, self._margin
        minutes, seconds = divmod(scene.time, 60)
        text = f"{int(minutes)}:{seconds:06.3f}  frame {scene.frame}"
        draw.text((left, top + self._text / 2), text, font=self._font, fill=_INK, anchor="lm")
        top += self._text
        edge = self._text // 2
        for face in scene.values:
            source = _source(face.sources)
            lit = face.face.colour if source == "sampled" else _dimmed(face.face.colour)
            y = top + (self._text - edge) // 2
            if source == "absent":
                draw.rectangle((left, y, left + edge, y + edge), outline=lit)
            else:
                draw.rectangle((left, y, left + edge, y + edge), fill=lit)
            left += edge + self._margin // 2
            label = f"face {face.face.label}" if face.face.label.isdecimal() else face.face.label
            if len(scene.values) == 1:
                label += f": {source}"
            draw.text((left, top + self._text / 2), label, font=self._font, fill=_INK, anchor="lm")
            left += self._width(label) + self._margin

    def _header_width(self) -> int:
        names = [f"face {face.label}" if face.label.isdecimal() else face.label for face in self._faces]
        legend = sum(self._width(name) + self._text // 2 + 2 * self._margin for name in names)
        if len(self._faces) == 1:
            legend += self._width(": interpolated")
        return max(legend, self._width("000:00.000  frame 000000"))

    def _width(self, text: str) -> int:
        return round(self._font.getlength(text))


def _title(block: Block) -> str:
    doubts = dict.fromkeys(bar.doubt for bar in block.bars if bar.doubt)
    return block.title + (" UNTRAINED" if block.untrained else "") + (f" (* {', '.join(doubts)})" if doubts else "")


def _source(sources: Sequence[str]) -> str:
    """What is said of a face: the best of its tables."""
    order = ("sampled", "interpolated", "nearest", "absent")
    return min(sources, key=order.index, default="absent")


def _highest(values: NDArray[np.float32], group: Sequence[int]) -> int:
    return group[int(np.argmax(np.nan_to_num(values[list(group)], nan=-np.inf)))]


def _dimmed(colour: Colour) -> Colour:
    red, green, blue = (round(part * _DIM) for part in colour)
    return red, green, blue
