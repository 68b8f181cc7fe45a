"""Text files and folders as the organisers hand them out: any line ends, byte-order mark or not, many to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.inputs.user_tables import refuse_spreadsheet
from emobeam.emo_transforms.storage.object_stores import reading
from emobeam.schemas.records import EmobeamError


def read_lines(uri: str, *, strip: bool = True) -> Iterator[tuple[int, str]]:
    """Yields number (from 1) and text of every line, empty ones too.

    Args:
        strip: remove blanks around a line; else only its end.

    Raises:
        EmobeamError: the file can't be read, or isn't UTF-8 (a spreadsheet program's own); names file and line.
    """
    refuse_spreadsheet(uri)
    try:
        with storage.open_text(uri, errors="surrogateescape") as file:
            for line, text in enumerate(file, start=1):
                # Bytes that aren't UTF-8 have become surrogates, so that it can be said where they are.
                if not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
                    raise EmobeamError(f"{uri}, line {line}: not UTF-8 text; is this the right file?")
                yield line, text.strip() if strip else text.rstrip("\n")
    except FileNotFoundError as error:
        raise EmobeamError(f"{uri}: no such file; check the name") from error
    except OSError as error:
        raise EmobeamError(f"{uri}: can't be read ({error.strerror or error})") from error


def read_rows(uri: str) -> Iterator[tuple[int, str]]:
    """As :func:`read_lines`, without empty lines."""
    return ((line, text) for line, text in read_lines(uri) if text)


def fields_of(text: str) -> list[str]:
    """The fields of a line, split at commas, blanks around them removed."""
    return [field.strip() for field in text.split(",")]


@dataclass(frozen=True)
class Folder:
    """What lies in a folder: URIs of files and of folders by name. Hidden entries are left out."""

    files: dict[str, str]
    folders: dict[str, str]

    def named(self, *wanted: str) -> dict[str, str]:
        """Folders of these names; capitals don't matter, blanks and underscores mean the same."""
        names = {plain_name(name) for name in wanted}
        return {name: uri for name, uri in self.folders.items() if plain_name(name) in names}

    def with_extension(self, extension: str) -> dict[str, str]:
        """Files with that extension, by name without it."""
        return {name[: -len(extension)]: uri for name, uri in self.files.items() if name.lower().endswith(extension)}


def plain_name(name: str) -> str:
    """A name in small letters with underscores for blanks: in this form two spellings are equal."""
    return name.lower().replace(" ", "_")


def is_file(uri: str) -> bool:
    """Whether the URI is a file; raises :class:`EmobeamError` where there is nothing at all."""
    fs, path = storage.file_system(uri)
    try:
        if storage.file_exists(uri):
            return True
        if reading(uri, lambda: fs.isdir(path)):
            return False
    except OSError as error:
        raise EmobeamError(f"{uri}: can't be read ({error.strerror or error})") from error
    raise EmobeamError(f"{uri}: no such file or folder; check the name")


def list_folder(uri: str) -> Folder:
    """Lists a folder, sorted by name; raises :class:`EmobeamError` where it can't be read."""
    fs, path = storage.file_system(uri)
    try:
        entries = reading(uri, lambda: fs.ls(path, detail=True))
    except OSError as error:
        raise EmobeamError(f"{uri}: can't be listed ({error.strerror or error})") from error
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        name = str(entry["name"]).rstrip("/").rpartition("/")[2]
        if name and not name.startswith("."):
            (folders if entry["type"] == "directory" else files)[name] = storage.join(uri, name)
    return Folder(files, folders)


def base_name(uri: str) -> str:
    """Last component of a URI."""
    return uri.rstrip("/").rpartition("/")[2]
