from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.faces import resampling
from emobeam.emo_transforms.faces.crops import crop_square
from emobeam.emo_transforms.faces.detection import area_averages, boxes, gate, pyramid
from emobeam.emo_transforms.faces.detection.detectors import make_detector
from emobeam.schemas.config import DetectorConfig
from tests.clips import face

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
{before}
from loops import twice
import numpy as np
print(twice(np.arange(3)).tolist(), sum(twice.stats.cache_hits.values()), flush=True)
"""

# Numba's import and first compilation take far longer than these loops: one process has had them, and every program is
# a fork of it.
NURSERY = """
import json, os, sys
sys.dont_write_bytecode = True
import numba
import numpy as np
import emobeam.emo_transforms.faces.compiled_loops

def first(values):
    out = np.empty_like(values)
    for k in range(len(values)):
        out[k] = 3 * values[k]
    return out

numba.njit(first, nogil=True, error_model="numpy")(np.arange(3))
for line in sys.stdin:
    order = json.loads(line)
    inside, outside = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(outside, 1)
        os.dup2(outside, 2)
        os.close(inside)
        os.environ.update(order["environment"])
        sys.dont_write_bytecode = order["forgets"]
        try:
            exec(order["program"], {"__name__": "__main__"})
        except BaseException as error:
            print(repr(error), flush=True)
        os._exit(0)
    os.close(outside)
    said = open(inside).read()
    os.waitpid(child, 0)
    print(json.dumps(said), flush=True)
"""

LOOPS = """
import numpy as np
from emobeam.emo_transforms.faces.compiled_loops import compiled

FACTOR = 2

@compiled
def twice(values):
    out = np.empty_like(values)
    for k in range(len(values)):
        out[k] = FACTOR * values[k]
    return out
"""


Run = Callable[..., str]


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def run(nursery: subprocess.Popen[str]) -> Run:
    """See :func:`run_in`."""
    return partial(run_in, nursery)


def run_in(
    nursery: subprocess.Popen[str],
    folder: Path,
    cache: Path,
    before: str = "",
    loops: str = LOOPS,
    changed: int | None = None,
) -> str:
    """What a process of its own finds, and how often it found the loop on disk.

    Args:
        changed: when the file of the loop was changed, in s since 1970. Python then keeps instructions, and goes on
            with them as long as length and this second are the same; by default it always reads the file.
    """
    (folder / "loops.py").write_text(loops)
    if changed is not None:
        os.utime(folder / "loops.py", (changed, changed))
    order = {
        "environment": {"HOME": str(cache), "XDG_CACHE_HOME": str(cache)},
        "forgets": changed is None,
        "program": PROGRAM.format(folder=str(folder), before=before),
    }
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(json.dumps(order) + "\n")
    nursery.stdin.flush()
    said: str = json.loads(nursery.stdout.readline())
    return said.strip()


def kept(folder: Path) -> list[Path]:
    return list(folder.rglob("*.nbc"))


def test_a_loop_is_kept_on_disk_until_its_file_changes(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, tmp_path) == "[0, 2, 4] 0"
    assert run(tmp_path, tmp_path) == "[0, 2, 4] 1"
    changed = LOOPS.replace("FACTOR = 2", "FACTOR = 5")
    assert run(tmp_path, tmp_path, loops=changed) == "[0, 5, 10] 0"
    assert run(tmp_path, tmp_path, loops=changed) == "[0, 5, 10] 1"
    assert len(kept(tmp_path)) == 2


CALLED = LOOPS.replace("FACTOR * values[k]", "of_one(values[k])").replace(
    "@compiled\n", "@compiled\ndef of_one(value):\n    return 2 * value\n\n@compiled\n", 1
)


@pytest.mark.parametrize(
    ("loops", "old", "new", "finds"),
    [
        (LOOPS, "FACTOR = 2", "FACTOR = 5", "[0, 5, 10]"),
        (LOOPS, "FACTOR * values", "FACTOR + values", "[2, 3, 4]"),
        (CALLED, "2 * value", "5 * value", "[0, 5, 10]"),
    ],
    ids=["a constant", "an instruction", "a loop that it calls"],
)
def test_what_is_kept_is_never_that_of_an_older_file(
    run: Run, tmp_path: Path, loops: str, old: str, new: str, finds: str
) -> None:
    """Python goes on with the instructions of a file that was changed within a second; what it runs must not stay."""
    changed = loops.replace(old, new)
    assert run(tmp_path, tmp_path, loops=loops, changed=10**9) == "[0, 2, 4] 0"
    assert run(tmp_path, tmp_path, loops=changed, changed=10**9) in ("[0, 2, 4] 0", "[0, 2, 4] 1")
    assert run(tmp_path, tmp_path, loops=changed, changed=10**9 + 60) == f"{finds} 0"


def test_what_is_kept_may_be_damaged(run: Run, tmp_path: Path) -> None:
    run(tmp_path, tmp_path)
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    for content in (b"", whole[:-1]):
        file.write_bytes(content)
        assert run(tmp_path, tmp_path) == "[0, 2, 4] 0"
        assert file.read_bytes()[32:] != content[32:]
    assert run(tmp_path, tmp_path) == "[0, 2, 4] 1"


def test_a_loop_runs_where_no_folder_can_be_written(run: Run, tmp_path: Path) -> None:
    """As in an image that is read only: a file stands where the folders of caches would be made."""
    package, nowhere = tmp_path / "package", tmp_path / "file"
    package.mkdir()
    nowhere.write_text("")
    (package / "__pycache__").write_text("")
    assert run(package, nowhere) == "[0, 2, 4] 0"
    assert not kept(tmp_path)


def test_a_loop_runs_from_a_zip_file(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        archive.writestr("loops.py", LOOPS)
    other = tmp_path / "other"
    other.mkdir()
    before = f"sys.path.insert(0, {str(tmp_path / 'package.zip')!r})"
    assert run(other, tmp_path, before) == "[0, 2, 4] 0"


def test_a_loop_runs_where_the_disk_is_full(run: Run, tmp_path: Path) -> None:
    full = "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
    assert run(tmp_path, tmp_path, full + "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)") == "[0, 2, 4] 0"
    assert not list(tmp_path.rglob("*.nbc*"))


def test_each_loop_is_compiled_for_one_kind_of_arguments() -> None:
    """Else a run would stop and compile in its middle."""
    for mode in ("exact", "track"):
        detector = make_detector(DetectorConfig(mode=mode))
        frames = [face(number, (320, 240)) for number in range(5)] + [np.zeros((240, 320, 3), np.uint8)]
        frames[2].setflags(write=False)
        found = detector.detect(frames, [0.0, 0.1, 0.2, 0.3, 1.5, 1.6])
        for frame, faces in zip(frames, found, strict=True):
            for box in faces.boxes:
                crop_square(frame, box, 0.3, 64)
    loops = {
        name: loop
        for module in (area_averages, boxes, gate, pyramid, resampling)
        for name, loop in vars(module).items()
        if hasattr(loop, "signatures")
    }
    kinds = {name: len(loop.signatures) for name, loop in loops.items()}
    # Of loops that came from disk those that they call aren't loaded by themselves.
    assert {name for name, count in kinds.items() if count > 1} == set()
    assert sum(kinds.values()) >= 8
