"""What a child process imports: the same modules as this one, whichever emobeam lies where it works."""

from __future__ import annotations

import os
import sys


def same_imports() -> dict[str, str]:
    """Environment in which ``python -P -m emobeam...`` finds modules where this process finds them.

    The children of a launcher that runs out of a checkout, or of a zip file, would else be those of the emobeam that
    is installed, if there is one.
    """
    return {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
