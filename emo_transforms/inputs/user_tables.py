"""Tables that people bring, as spreadsheets and pandas write them; one reader for all of them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence

from emobeam.emo_transforms import storage
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.wording import did_you_mean, from_cell

MEDIA_OFFSET = "media_offset"
"""Column of tables that have times in s from the first frame: its place on the media's own clock. A table that is read
has such times where it has this column, else those of a player."""

_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")


def refuse_spreadsheet(uri: str, where: str = "") -> None:
    """Raises :class:`UsageError` where a file is a program's own, which nobody else reads."""
    if uri.lower().endswith(_SPREADSHEETS):
        raise UsageError(f"{where or uri}: a spreadsheet program's own file; save it as CSV (UTF-8) and name that")


def read_table(uri: str, option: str, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table that people bring (CSV with commas, semicolons or tabs; UTF-8), as text by column.

    Names of columns are in small letters except where ``needed`` spells them otherwise. Each row has its line number
    under ``""``. Between semicolons or tabs numbers may have decimal commas (``0,4``), as spreadsheets write them in
    many countries; in columns of seconds and of outputs they become points.

    Raises:
        UsageError: no such file, no CSV file, a column is missing, or a row has more cells than the header.
        EmobeamError: it can't be read.
    """
    where = f"{option} {uri}".lstrip()
    refuse_spreadsheet(uri, where)
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{where}: no such file") from error
    except OSError as error:
        raise EmobeamError(f"{where}: can't be read ({error})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not a CSV file in UTF-8 ({error})") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        lines = [(cells, reader.line_num) for cells in reader] or [([], 0)]
    except csv.Error as error:
        raise UsageError(f"{where}, line {reader.line_num}: {error}; is a quote not closed?") from error
    header = [name.strip() for name in lines[0][0]]
    names = [name.lower() if name.lower() in _KNOWN else name for name in header]
    missing = [name for name in needed if name not in names]
    if missing:
        meant = "".join(did_you_mean(name, header) for name in missing)
        raise UsageError(f"{where}: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}{meant}")
    rows = []
    for cells, line in lines[1:]:
        if any(cell.strip() for cell in cells):
            if any(cell.strip() for cell in cells[len(names) :]):
                raise UsageError(
                    f"{where}, line {line}: {len(cells)} cells under {len(names)} columns; numbers "
                    "with decimal commas need semicolons between the columns"
                )
            row = {name: from_cell(cell.strip()) for name, cell in zip(names, cells, strict=False)}
            if delimiter != ",":
                row |= {name: cell.replace(",", ".") for name, cell in row.items() if _decimal_comma(name, cell)}
            rows.append(dict.fromkeys(names, "") | row | {"": str(line)})
    return rows


_OF_STRETCHES = ("video", "path", "subject", "face", "person", "number", "start", "end", "label")
_OF_CODING = ("unit", "onset", "offset", "value", "frame", "time", "tier", MEDIA_OFFSET)
_KNOWN = frozenset((*_OF_STRETCHES, *_OF_CODING))
_SECONDS = frozenset(("start", "end", "onset", "offset", "time"))


def _decimal_comma(column: str, cell: str) -> bool:
    measured = column in _SECONDS or column not in _KNOWN
    return measured and re.fullmatch(r"[+-]?\d*,\d+", cell, re.ASCII) is not None


def number_in(row: Mapping[str, str], column: str, uri: str, option: str) -> float:
    """A finite number of a row; raises :class:`UsageError` naming file and line."""
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        why = ": write it with a decimal point" if "," in row[column] else ""
        raise UsageError(f"{option} {uri}, line {row['']}: {column} '{row[column]}' is no number{why}")
    return value
