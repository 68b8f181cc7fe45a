"""The weights of MTCNN that come with emobeam, made of facenet-pytorch's wheel.

    python -m tests.emo_transforms.faces.detection.mtcnn_file [--write]

Compares the package's file with the installed facenet-pytorch 2.6.0; ``--write`` makes it anew, with the notice of the
licence beside it, and prints the digest that ``mtcnn_layers.py`` holds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from safetensors.numpy import save

from emobeam.emo_transforms.faces.detection import mtcnn_layers
from emobeam.emo_transforms.storage import write_bytes

VERSION = "2.6.0"
FILE = Path(mtcnn_layers.__file__).with_name(mtcnn_layers.WEIGHTS_FILE)
NOTICE = FILE.with_name("mtcnn-LICENSE.txt")

_ORIGIN = {
    "made by": "python -m tests.emo_transforms.faces.detection.mtcnn_file --write",
    "made of": f"pnet.pt, rnet.pt and onet.pt of facenet-pytorch {VERSION}",
    "licence": "MIT, Copyright (c) 2019 Timothy Esler, see mtcnn-LICENSE.txt",
}


def file_of_facenet() -> bytes:
    """The file as it has to be: tensors of the installed facenet-pytorch as ``pnet.conv1.weight`` and so on."""
    if (found := metadata.version("facenet-pytorch")) != VERSION:
        raise SystemExit(f"facenet-pytorch {found} is installed; its weights are to be those of {VERSION}")
    networks = {"pnet": PNet(), "rnet": RNet(), "onet": ONet()}
    tensors = {
        f"{net}.{name}": value.numpy()
        for net, module in networks.items()
        for name, value in sorted(module.state_dict().items())
    }
    return save(tensors, {"origin": json.dumps(_ORIGIN, sort_keys=True)})  # of one entry: several have no fixed order


def notice_of_facenet() -> str:
    """The licence in facenet-pytorch's wheel."""
    (notice,) = [file for file in metadata.files("facenet-pytorch") or [] if file.name.startswith("LICENSE")]
    return notice.read_text()


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="make file and notice anew")
    content = file_of_facenet()
    if arguments.parse_args(argv).write:
        write_bytes(str(FILE), content)
        write_bytes(str(NOTICE), notice_of_facenet().encode())
    digest = hashlib.sha256(content).hexdigest()
    print(f"{FILE.name}: {len(content):,} bytes, sha256 {digest}")
    if FILE.read_bytes() != content or NOTICE.read_text() != notice_of_facenet():
        raise SystemExit("The package's file or its notice is another; write it anew with --write")
    if digest != mtcnn_layers.WEIGHTS_SHA256:
        raise SystemExit("WEIGHTS_SHA256 in mtcnn_layers.py is another; where faces change, so has STAGE1_REVISION to")


if __name__ == "__main__":
    main()
