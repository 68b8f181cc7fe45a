"""The folder of an export: it appears as a whole, and replaces only an export that nobody has touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.leftovers import make_scratch, replace_folder, unfinished_beside
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.wording import data_without_secrets

MARKER = "export.json"
"""The file that says that a folder is an export, of what, and which files it holds."""

_VERSION = 1


def check_destination(uri: str) -> None:
    """Makes sure that nothing of anybody's is lost if ``uri`` is written.

    Raises:
        UsageError: it is a file, holds something that is no export, or an export to which files were added or in
            which files were changed (a document annotated further, say).
    """
    there = _files(uri)
    if not there:
        return
    known = _known(uri)
    if known is None:
        raise UsageError(f"--output {uri}: holds files that are no export of emobeam; choose another folder")
    touched = sorted(name for name in there if name != MARKER and known.get(name) != _state(uri, name, known))
    if touched:
        shown = ", ".join(touched[:3]) + (" ..." if len(touched) > 3 else "")
        raise UsageError(
            f"--output {uri}: {shown} {'was' if len(touched) == 1 else 'were'} changed or added since the export; "
            "choose another folder, or move what you want to keep"
        )


@contextmanager
def whole_folder(uri: str, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Yields an empty local folder whose content stands at ``uri`` when the block ends well, else nothing changes.

    On this machine the folder is renamed as a whole. In an object store files are put one by one, :data:`MARKER` last.

    Args:
        facts: what :data:`MARKER` says beside the list of files.

    Raises:
        UsageError: see :func:`check_destination`.
        OutputError: it can't be written.
    """
    check_destination(uri)
    destination = storage.local_path(uri).resolve() if storage.is_local(uri) else None
    if destination is not None:
        storage.make_folder(str(destination.parent))
    try:
        folder = unfinished_beside(destination) if destination is not None else make_scratch("export")
        try:
            folder.mkdir(exist_ok=True)
            yield folder
            _write_marker(folder, facts)
            if destination is not None:
                replace_folder(folder, destination)
            else:
                _upload(folder, uri)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError):
            raise
        raise storage.OutputError(f"{uri}: can't be written ({error.strerror or error})") from error


def _write_marker(folder: Path, facts: Mapping[str, Any]) -> None:
    files = {name: _digest(folder / name) for name in _below(folder)}
    told = {"emobeam_export": _VERSION, **data_without_secrets(dict(facts)), "files": files}
    text = json.dumps(told, indent=2, sort_keys=True)
    (folder / MARKER).write_text(text + "\n", encoding="utf-8")


def _upload(folder: Path, uri: str) -> None:
    before = _files(uri)
    now = _below(folder)
    for name in [*sorted(set(now) - {MARKER}), MARKER]:
        with storage.atomic_file(storage.join(uri, name)) as path:
            shutil.copyfile(folder / name, path)
    for name in before - set(now):
        storage.remove(storage.join(uri, name))


def _below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _files(uri: str) -> set[str]:
    """Paths of all files below a folder; empty where there is none."""
    if storage.is_local(uri):
        place = storage.local_path(uri)
        if place.exists() and not place.is_dir():
            raise UsageError(f"--output {uri}: is a file; name a folder")
        return set(_below(place)) if place.exists() else set()
    fs, path = storage.file_system(uri)
    fs.invalidate_cache(path)
    root = path.rstrip("/") + "/"
    return {str(found).removeprefix(root) for found in fs.find(path)}


def _known(uri: str) -> dict[str, Any] | None:
    marker = storage.join(uri, MARKER)
    if not storage.exists(marker):
        return None
    try:
        data = storage.read_json(marker)
    except EmobeamError:
        return None
    if not isinstance(data, dict) or "emobeam_export" not in data or not isinstance(data.get("files"), dict):
        return None
    files: dict[str, Any] = data["files"]
    return files


def _state(uri: str, name: str, known: Mapping[str, Any]) -> Any:
    """What the marker would say of a file now; of a store's, only its size is looked at."""
    if storage.is_local(uri):
        return _digest(storage.local_path(uri) / name)
    told = known.get(name)
    size = storage.size(storage.join(uri, name))
    return told if isinstance(told, dict) and told.get("bytes") == size else {"bytes": size}


def _digest(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": storage.file_sha256(str(path))}
