"""Clips with sound, made for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from tests.clips import FPS, Picture, face, write_number

RATE = 16000


def with_sound(
    path: Path, *, codec: str = "aac", frames: int = 50, pictures: Iterable[Picture] | None = None, rate: int = RATE
) -> Path:
    """A portrait with a tone that rises by the second; ``codec`` is FFmpeg's name of the sound's encoder."""
    drawn = pictures or (face(number) for number in range(frames))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "bf": "2"})
        sound = container.add_stream(codec, rate=rate, layout="mono")
        first = True
        for index, picture in enumerate(drawn):
            if first:
                video.height, video.width = picture.shape[:2]
                video.pix_fmt = "yuv420p"
                first = False
            frame = av.VideoFrame.from_ndarray(write_number(picture, index + 1), format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        time = np.arange(frames * rate // FPS) / rate
        tone = (0.3 * np.sin(2 * np.pi * (220 + 110 * np.floor(time)) * time) * 32767).astype(np.int16)
        for start in range(0, len(tone), 1000):
            piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1000], format="s16", layout="mono")
            piece.sample_rate, piece.pts = rate, start
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


def audio_packets(path: Path) -> list[tuple[float, bytes]]:
    """Time in s and content of every packet of sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in container.demux(audio=0)
            if packet.size and packet.pts is not None and packet.time_base is not None
        ]


def tone(path: Path) -> tuple[np.ndarray, int]:
    """All samples of the sound as float, and their rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        pieces = [frame.to_ndarray().astype(np.float64).mean(axis=0) for frame in container.decode(stream)]
        return np.concatenate(pieces), stream.rate
