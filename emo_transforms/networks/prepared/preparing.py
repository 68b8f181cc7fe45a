"""Preparing one network, in a process of its own that imports torch; its order comes as JSON on standard input."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.networks.prepared.ensuring import NO_ROOM
from emobeam.emo_transforms.networks.prepared.keys import Key
from emobeam.emo_transforms.networks.prepared.store import Store
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError, UsageError


def main() -> None:
    """Prepares what is asked for; the last line on standard output is the answer."""
    order = parsed(sys.stdin.read())
    # What libraries print meanwhile is none.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers.write(json.dumps(prepared(order)) + "\n")
    answers.flush()


def prepared(order: dict[str, Any]) -> dict[str, str]:
    """Does what an order asks for; ``error`` and ``message`` where it can't be done."""
    from emobeam.emo_transforms.networks.prepared.from_torch import make

    asked = order["content"]
    key = Key(asked["kind"], asked["identity"])
    if key.content != asked:
        return {"error": "EmobeamError", "message": "emobeam or OpenVINO was replaced meanwhile; start again"}
    try:
        made = list(make(key, order["recipe"]))
    except (UsageError, EmobeamError) as error:
        return {"error": "UsageError" if isinstance(error, UsageError) else "EmobeamError", "message": str(error)}
    except OSError as error:
        return {"error": "EmobeamError", "message": f"{key.kind}: can't be prepared ({error})"}
    store = Store(Path(order["folder"]))
    try:
        for each, entry in made:
            store.write(each, entry)
    except OSError:
        return {"error": NO_ROOM}
    return {}


if __name__ == "__main__":
    main()
