"""What a flex template's launcher runs: its parameters become the command ``emobeam extract --runner dataflow``.

Parameters have the names of the command's options, with ``_`` for ``-`` (``metadata.json`` lists them). The launcher
adds options of Beam (``--template_location``, ``--labels``); they follow after ``--``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

METADATA = Path(__file__).with_name("metadata.json")

FROM_LAUNCHER = {
    "project": "--project",
    "region": "--region",
    "temp_location": "--temp-location",
    "sdk_container_image": "--image",
    "max_num_workers": "--workers",
    "worker_machine_type": "--machine-type",
    "machine_type": "--machine-type",
}
"""Options of the launcher for which the command has its own."""

IGNORED = ("runner", "sdk_location", "autoscaling_algorithm", "requirements_file", "setup_file")
"""Set by the command itself, or meant for templates that install packages when they start."""


def command_line(argv: Sequence[str]) -> list[str]:
    """The ``emobeam`` command for a launcher's arguments, each ``--name=value`` or a bare switch.

    Raises:
        SystemExit: no inputs or no output are named.
    """
    parameters = {parameter["name"] for parameter in json.loads(METADATA.read_text())["parameters"]}
    inputs: list[str] = []
    ours: list[str] = []
    beam: list[str] = []
    for argument in argv:
        name, equals, value = argument.removeprefix("--").partition("=")
        if name == "inputs":
            inputs += value.split()
        elif name in FROM_LAUNCHER:
            ours += [FROM_LAUNCHER[name], value]
        elif name in parameters:
            if value or not equals:
                ours += ["--" + name.replace("_", "-"), *([value] if equals else [])]
        elif name not in IGNORED:
            beam.append(argument)
    if not inputs or "--output" not in ours:
        raise SystemExit("the template needs its parameters 'inputs' and 'output'")
    return ["emobeam", "extract", *inputs, *ours, "--runner", "dataflow", "--detach", "--", *beam]


if __name__ == "__main__":
    command = command_line(sys.argv[1:])
    print(" ".join(command), file=sys.stderr, flush=True)
    os.execvp(command[0], command)
