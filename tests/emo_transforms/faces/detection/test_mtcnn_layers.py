from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from facenet_pytorch.models import mtcnn
from safetensors import safe_open

from emobeam.emo_transforms.faces.detection import mtcnn_layers
from emobeam.emo_transforms.faces.detection.mtcnn_layers import (
    WEIGHTS_FILE,
    WEIGHTS_SHA256,
    Layer,
    Net,
    shipped_nets,
    shipped_weights,
)
from emobeam.schemas.config import STAGE1_REVISION
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.faces.detection import mtcnn_file

NETWORKS = {"pnet": mtcnn.PNet, "rnet": mtcnn.RNet, "onet": mtcnn.ONet}


def test_the_weights_are_those_of_facenet_pytorch_number_for_number() -> None:
    assert metadata.version("facenet-pytorch") == mtcnn_file.VERSION
    ours = shipped_weights()
    assert ours.keys() == NETWORKS.keys()
    for name, network in NETWORKS.items():
        theirs = network().state_dict()
        assert ours[name].keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[name][key].dtype == value.numpy().dtype == np.float32
            np.testing.assert_array_equal(ours[name][key], value.numpy(), err_msg=f"{name}.{key}")


def test_the_file_is_what_its_command_makes_byte_for_byte(capsys: pytest.CaptureFixture[str]) -> None:
    content = mtcnn_file.FILE.read_bytes()
    assert content == mtcnn_file.file_of_facenet()
    assert hashlib.sha256(content).hexdigest() == WEIGHTS_SHA256
    mtcnn_file.main([])
    assert WEIGHTS_SHA256 in capsys.readouterr().out


def test_the_command_tells_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / WEIGHTS_FILE
    content = bytearray(mtcnn_file.FILE.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    monkeypatch.setattr(mtcnn_file, "FILE", other)
    monkeypatch.setattr(mtcnn_file, "NOTICE", tmp_path / "notice")
    with pytest.raises(SystemExit, match="--write"):
        mtcnn_file.main([])
    mtcnn_file.main(["--write"])
    assert other.read_bytes() == mtcnn_file.file_of_facenet()
    assert (tmp_path / "notice").read_text() == mtcnn_file.notice_of_facenet()


def test_the_notice_of_the_licence_is_beside_them() -> None:
    notice = mtcnn_file.NOTICE.read_text()
    assert notice == mtcnn_file.notice_of_facenet()
    assert "MIT License" in notice
    assert "Copyright (c) 2019 Timothy Esler" in notice
    with safe_open(mtcnn_file.FILE, "numpy") as file:
        assert mtcnn_file.NOTICE.name in file.metadata()["origin"]


def test_other_weights_come_with_another_revision() -> None:
    """Else a cache would hold faces of two detectors under one identity."""
    assert (STAGE1_REVISION, WEIGHTS_SHA256[:16]) == (4, "8ce4e09285bef67e")


def _layers(net: Net) -> list[Layer]:
    return [*net.convolutions, *([net.dense] if net.dense else []), net.head]


def test_layers_are_made_of_numbers_that_torch_may_take() -> None:
    for net in shipped_nets():
        for layer in _layers(net):
            for values in (layer.weight, layer.bias, layer.slope):
                if values is not None:
                    assert values.dtype == np.float32
                    assert values.flags.c_contiguous
                    assert values.flags.writeable


@pytest.mark.parametrize("place", [0, 5000, -1])
def test_a_damaged_file_is_named(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that reads well: a number that is changed finds other faces."""
    content = bytearray(mtcnn_file.FILE.read_bytes())
    content[place] ^= 1
    (tmp_path / WEIGHTS_FILE).write_bytes(content)
    monkeypatch.setattr(mtcnn_layers, "files", lambda package: tmp_path)
    with pytest.raises(EmobeamError, match=r"mtcnn\.safetensors: missing or damaged .*install emobeam anew"):
        shipped_weights.__wrapped__()


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtcnn_layers, "files", lambda package: tmp_path)
    with pytest.raises(EmobeamError, match=r"mtcnn\.safetensors: missing or damaged"):
        shipped_weights.__wrapped__()


WITHOUT = """
import sys
import numpy as np
from emobeam.emo_transforms.faces.detection.detectors import make_detector
from emobeam.schemas.config import DetectorConfig

for mode in ("exact", "track"):
    detector = make_detector(DetectorConfig(mode=mode), "openvino-f32")
    frames = [np.zeros((120, 160, 3), np.uint8)] * 3
    detector.start()
    assert [len(faces) for faces in detector.detect(frames, [0.0, 0.2, 1.5])] == [0, 0, 0]
print(sorted({"torch", "torchvision", "timm", "facenet_pytorch"} & sys.modules.keys()))
"""


def test_with_openvino_faces_are_found_without_torch() -> None:
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
