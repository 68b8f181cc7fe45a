"""Downloads from a real server on this machine, and from files."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from emobeam.emo_transforms.networks.backbones.published.catalogue import Entry, entry
from emobeam.emo_transforms.networks.backbones.published.fetching import fetch, fetched, models_folder
from emobeam.emo_transforms.networks.checkpoints.reading import read_checkpoint
from emobeam.schemas.records import EmobeamError, UsageError


@dataclass
class Server:
    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, directory=str(folder), **keywords)

        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/moved/"):  # as GitHub does
                self.send_response(302)
                self.send_header("Location", "/" + self.path.removeprefix("/moved/"))
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield Server(f"http://127.0.0.1:{running.server_port}", folder, asked)
        running.shutdown()
        thread.join()


def published(path: Path, value: float = 1.0) -> str:
    torch.save({"weight": torch.full((300, 300), value)}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model(url: str, sha256: str = "") -> Entry:
    return replace(entry("mbf_va_mtl"), name="little", url=url, sha256=sha256)


@pytest.mark.parametrize("path", ["w.pt", "w.pt?raw=true", "moved/w.pt"])
def test_a_model_is_downloaded_checked_and_pinned(path: str, server: Server, tmp_path: Path) -> None:
    digest = published(server.folder / "w.pt")
    told: list[tuple[int, int]] = []
    little = model(f"{server.url}/{path}")
    result = fetch(little, tmp_path / "models", accepted=True, progress=lambda count, all_: told.append((count, all_)))
    size = (server.folder / "w.pt").stat().st_size
    assert (result.sha256, result.bytes, result.downloaded, result.pinned) == (digest, size, True, False)
    assert result.path == tmp_path / "models" / "little.pt"
    assert result.path.read_bytes() == (server.folder / "w.pt").read_bytes()
    assert sum(count for count, _ in told) == size
    assert {all_ for _, all_ in told} == {size}
    lock = json.loads((tmp_path / "models" / "little.lock.json").read_text())
    assert lock == {"url": little.url, "sha256": digest, "bytes": size}
    assert {file.name for file in (tmp_path / "models").iterdir()} == {"little.pt", "little.lock.json"}

    asked = len(server.asked)
    again = fetch(little, tmp_path / "models", accepted=False)
    assert (again.downloaded, again.pinned) == (False, True)
    assert len(server.asked) == asked


def test_files_work_as_addresses(tmp_path: Path) -> None:
    digest = published(tmp_path / "w.pt")
    result = fetch(model(f"file://{tmp_path}/w.pt", digest), tmp_path / "models", accepted=True)
    assert result.pinned
    assert torch.equal(read_checkpoint(str(result.path))["weight"], torch.ones(300, 300))


def test_later_downloads_have_to_match_the_first(server: Server, tmp_path: Path) -> None:
    first = published(server.folder / "w.pt")
    little = model(f"{server.url}/w.pt")
    fetch(little, tmp_path / "models", accepted=True)
    (tmp_path / "models" / "little.pt").unlink()
    published(server.folder / "w.pt", 2.0)
    with pytest.raises(EmobeamError, match=rf"w\.pt: the file has sha256 \w+, expected {first}.*little\.lock\.json"):
        fetch(little, tmp_path / "models", accepted=True)
    assert not (tmp_path / "models" / "little.pt").exists()
    assert {file.name for file in (tmp_path / "models").iterdir()} == {"little.lock.json"}


def test_a_known_digest_counts(server: Server, tmp_path: Path) -> None:
    published(server.folder / "w.pt")
    with pytest.raises(EmobeamError, match=r"expected 000.*Nothing was kept$"):
        fetch(model(f"{server.url}/w.pt", "0" * 64), tmp_path / "models", accepted=True)
    assert not list((tmp_path / "models").glob("*"))


def test_a_digest_that_the_user_knows_counts(tmp_path: Path) -> None:
    digest = published(tmp_path / "w.pt")
    little, models = model(f"file://{tmp_path}/w.pt"), tmp_path / "models"
    with pytest.raises(EmobeamError, match=r"expected 000.*Nothing was kept$"):
        fetch(little, models, accepted=True, sha256="0" * 64)
    assert not list(models.glob("*"))
    with pytest.raises(UsageError, match="--sha256 abc: a sha256 has 64 hexadecimal digits"):
        fetch(little, models, accepted=True, sha256="abc")
    result = fetch(little, models, accepted=True, sha256=f" {digest.upper()}")
    assert (result.downloaded, result.pinned, result.sha256) == (True, True, digest)
    assert not fetch(little, models, accepted=True, sha256=digest).downloaded
    with pytest.raises(UsageError, match=rf"little\.lock\.json says \(remove it if it is wrong\) {digest}"):
        fetch(little, models, accepted=True, sha256="0" * 64)
    with pytest.raises(UsageError, match=f"the catalogue says {digest}"):
        fetch(replace(little, sha256=digest), models, accepted=True, sha256="0" * 64)
    (models / "little.lock.json").unlink()
    with pytest.raises(EmobeamError, match="remove it and fetch it again"):
        fetch(little, models, accepted=True, sha256="0" * 64)


def test_a_file_changed_in_the_folder_is_noticed(tmp_path: Path) -> None:
    published(tmp_path / "w.pt")
    little = model(f"file://{tmp_path}/w.pt")
    path = fetch(little, tmp_path / "models", accepted=True).path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EmobeamError, match=r"little\.pt: has sha256 .* remove it"):
        fetch(little, tmp_path / "models", accepted=True)


def test_a_file_put_there_by_hand_is_taken_and_pinned(tmp_path: Path) -> None:
    by_hand = entry("ddamfn_affectnet8")
    with pytest.raises(UsageError, match=r"can't be fetched by a program: get affecnet8"):
        fetch(by_hand, tmp_path, accepted=True)
    published(tmp_path / by_hand.file_name)
    assert not fetch(by_hand, tmp_path, accepted=False).downloaded
    published(tmp_path / by_hand.file_name, 2.0)
    with pytest.raises(EmobeamError, match="remove it"):
        fetch(by_hand, tmp_path, accepted=False)


def test_terms_come_first(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"little: .*non-commercial research only; add --accept-licence"):
        fetch(model(f"{server.url}/w.pt"), tmp_path / "models", accepted=False)
    assert not server.asked


def test_trouble_on_the_way_is_told_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    (server.folder / "page").write_text("<!DOCTYPE html><title>Sign in</title>")
    (server.folder / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    wrong = {
        f"{server.url}/missing.pt": "no such file",
        f"{server.url}/page": "a web page or a pointer",
        f"{server.url}/pointer": "a web page or a pointer",
        "http://127.0.0.1:9/w.pt": r"can't be downloaded .*put it at .*little\.pt and run this again",
        f"file://{tmp_path}/missing.pt": "no such file",
        "nosuchscheme://host/w.pt": "can't be downloaded",
    }
    for url, words in wrong.items():
        with pytest.raises(EmobeamError, match=words) as caught:
            fetch(model(url), tmp_path / "models", accepted=True)
        assert url in str(caught.value)
    assert not list((tmp_path / "models").glob("*"))


def test_a_broken_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "little.lock.json").write_text('{"sha": 1}')
    with pytest.raises(EmobeamError, match=r"little\.lock\.json: not a lock file"):
        fetch(model("file:///nowhere"), tmp_path, accepted=True)


def test_where_models_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOBEAM_MODELS", str(tmp_path))
    assert models_folder() == tmp_path
    assert fetched("mbf_va_mtl") is None
    assert fetched("/some/file.pt") is None
    (tmp_path / "mbf_va_mtl.pt").touch()
    assert fetched("mbf_va_mtl") == tmp_path / "mbf_va_mtl.pt"
    monkeypatch.delenv("EMOBEAM_MODELS")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert models_folder() == tmp_path / "cache" / "emobeam" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models_folder() == tmp_path / ".cache" / "emobeam" / "models"
