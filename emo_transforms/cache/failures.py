"""Failure records of a feature cache: ``failures/<name>.json``, one for a segment or a whole video."""

from __future__ import annotations

from dataclasses import asdict, replace

from emobeam.emo_transforms import storage
from emobeam.schemas.config import digest_of
from emobeam.schemas.plain_json import checked
from emobeam.schemas.records import EmobeamError, Failure, Fingerprint
from emobeam.schemas.wording import in_unicode, without_secrets


def failure_name(video: str, fingerprint: Fingerprint, cache_id: str) -> str:
    """Name of the failure record of a whole video."""
    return digest_of([video, fingerprint.size, fingerprint.digest, cache_id])


def write_failure(features: str, name: str, failure: Failure) -> None:
    """Writes ``failures/<name>.json``: a shard's name for a segment, :func:`failure_name` for a video."""
    # Ids and names of shards are what a record is found by: they stay as they are.
    shown = replace(
        failure, uri=in_unicode(without_secrets(failure.uri)), message=in_unicode(without_secrets(failure.message))
    )
    storage.write_json(storage.join(features, "failures", f"{name}.json"), asdict(shown))


def read_failures(features: str) -> dict[str, Failure]:
    """All failure records by name, without those that another job removes meanwhile.

    Raises:
        EmobeamError: one of them is damaged.
    """
    folder = storage.join(features, "failures")
    names = sorted(storage.names(folder, ".json"))
    found = storage.side_by_side(folder, lambda name: _failure(storage.join(folder, f"{name}.json")), names)
    return {name: failure for name, failure in zip(names, found, strict=True) if failure is not None}


def _failure(uri: str) -> Failure | None:
    try:
        data = storage.read_json(uri)
    except FileNotFoundError:
        return None  # true no longer
    try:
        return checked(Failure, data)
    except ValueError as error:
        raise EmobeamError(f"{uri}: not a failure record ({error}); remove it and run again") from error


def drop_failure(features: str, name: str) -> None:
    """Removes a failure record that a later run has made untrue."""
    storage.remove(storage.join(features, "failures", f"{name}.json"))
