"""The job ``validate``: would an organiser's scorer read this submission?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from emobeam.emo_transforms.abaw.submissions.validation import Finding, validate
from emobeam.pipelines.console import Terminal
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted


def run_validate(uri: str, task: Task, edition: int, *, template: str = "") -> tuple[int, dict[str, Any]]:
    """Checks a submission.

    Returns:
        The exit code, 0 where there are no errors and 1 where there are, and the findings as plain JSON data.

    Raises:
        EmobeamError: there is no submission at ``uri``, or the template can't be used.
        UsageError: the edition has no such task.
    """
    report = validate(uri, task, edition, template)
    result = {"file": uri, "task": task.name, "edition": edition, "template": template, "ok": report.ok}
    return (0 if report.ok else 1), result | asdict(report)


def print_validation(result: dict[str, Any]) -> None:
    """Prints the result of :func:`run_validate` on standard output."""
    console = Terminal(soft_wrap=True)
    listed = {"error": result["errors"], "warning": result["warnings"]}
    for word, findings in listed.items():
        for finding in findings:
            console.print(f"{word}: {Finding(**finding)}")
    for word, count in (("error", result["error_count"]), ("warning", result["warning_count"])):
        if count > len(listed[word]):
            console.print(f"{word}s: {count} in all, the first of each kind are listed")
    verdict = "valid" if result["ok"] else f"not valid, {counted(result['error_count'], 'error')}"
    against = "" if result["template"] else "; no template given, so missing and surplus rows aren't known"
    of = f"task {result['task']} of ABAW {result['edition']}"
    console.print(f"{result['file']}: {verdict} for {of}, {counted(result['rows'], 'row')}{against}")
