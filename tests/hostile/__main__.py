"""``make hostile``: damaged files and killed commands, counted. Exit code 1 where something went wrong.

python -m tests.hostile --files 2000 --kills 300 --seed 7
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.files import KINDS, count_damaged
from tests.hostile.kills import commands, count_kills

MEMORY = 8 << 30
"""Bytes of addresses for reading damaged files: whoever believes a number in one meets this, not the machine."""


def main() -> int:
    """Runs what is asked for, and prints a table of it as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=200, help="damaged files of each kind (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=30, help="kills, over all commands (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (default: %(default)s)")
    args = parser.parse_args()
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        _kills(Path(folder), args.kills, args.seed, notes)
        _files(Path(folder), args.files, args.seed, notes)
    print("\n".join(notes), file=sys.stderr)
    return 1 if notes else 0


def _kills(folder: Path, kills: int, seed: int, notes: list[str]) -> None:
    if not kills:
        return
    (folder / "material").mkdir()
    found = commands(folder / "material")
    print("| command | kills | in its work | files lost | differing | left over | s |\n|---|---|---|---|---|---|---|")
    for index, (name, command) in enumerate(found.items()):
        began = time.monotonic()
        (folder / name).mkdir()
        share = kills // len(found) + (index < kills % len(found))
        counts = count_kills(name, command, folder / name, share, seed)
        figures = (counts.kills, counts.kills - counts.early, counts.lost, counts.differing, counts.left_over)
        print(f"| {name} | {' | '.join(map(str, figures))} | {time.monotonic() - began:.0f} |", flush=True)
        notes += counts.notes
    print()


def _files(folder: Path, cases: int, seed: int, notes: list[str]) -> None:
    if not cases:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    print("| damaged | files | read | refused | neither | s |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        began = time.monotonic()
        (folder / f"damaged {kind}").mkdir()
        count = count_damaged(kind, folder / f"damaged {kind}", cases, seed)
        figures = (count.cases, count.read, count.refused, len(count.broken))
        print(f"| {kind} | {' | '.join(map(str, figures))} | {time.monotonic() - began:.0f} |", flush=True)
        notes += count.broken


if __name__ == "__main__":
    sys.exit(main())
