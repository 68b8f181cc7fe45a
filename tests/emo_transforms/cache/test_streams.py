from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.cache.streams import Stream, read_stream, stream_names, stream_uri, write_stream
from emobeam.schemas.records import EmobeamError, UsageError

VOICE = Stream("day 1/clip é", "wav2vec2", 3, 4, "rate", 2.0, "voice.npy", "d1")


def test_streams_come_back(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    times = np.array([0.25, 0.75, 1.25, 1.75])
    write_stream(str(tmp_path), VOICE, times, vectors)
    whole = replace(VOICE, name="text", steps=1, clock="clip", rate=0.0)
    write_stream(str(tmp_path), whole, None, vectors[:1])
    assert stream_names(str(tmp_path)) == ["text", "wav2vec2"]
    found = read_stream(str(tmp_path), "wav2vec2", VOICE.video)
    assert found is not None
    assert found[0] == VOICE
    np.testing.assert_array_equal(found[1], times)
    np.testing.assert_array_equal(found[2], vectors)
    found = read_stream(str(tmp_path), "text", VOICE.video)
    assert found is not None
    assert (found[0], found[1], found[2].shape) == (whole, None, (1, 3))
    assert read_stream(str(tmp_path), "text", "another") is None
    before = (tmp_path / "streams" / "wav2vec2").iterdir()
    content = {path: path.read_bytes() for path in before}
    write_stream(str(tmp_path), VOICE, times, vectors)
    assert all(path.read_bytes() == data for path, data in content.items()), "the same again gives the same bytes"


def test_a_damaged_stream_is_named(tmp_path: Path) -> None:
    write_stream(str(tmp_path), VOICE, np.arange(4.0), np.zeros((4, 3)))
    uri = stream_uri(str(tmp_path), VOICE.name, VOICE.video)
    Path(uri).write_bytes(b"no Parquet")
    with pytest.raises(EmobeamError, match=f"{uri}.*attach it again"):
        read_stream(str(tmp_path), VOICE.name, VOICE.video)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "é"])
def test_names_of_streams_are_names_of_folders(name: str) -> None:
    with pytest.raises(UsageError, match="can't be the name of a stream"):
        stream_uri("features", name, "a")
