"""What the functions give back: small records of plain data; tables are read from the files when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN = 3


@dataclass(frozen=True, repr=False)
class _Run:
    """A run's summary.

    Attributes:
        summary: what the command prints with ``--json``.
        videos: rows of ``videos.parquet``, as plain data.
        warnings: what the run had to warn of.
    """

    summary: Mapping[str, Any]
    videos: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    warnings: tuple[str, ...] = ()

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of videos by outcome: ``ok``, ``no_face``, ``partial``, ``failed``."""
        return dict(self.summary["videos"])

    @property
    def ok(self) -> bool:
        """Whether the command would end with exit code 0: no input failed, and submissions say something."""
        failed = any(entry["outcome"] != "no_face" for entry in self.summary["not_ok"])
        neutral = any(2 * rows["neutral"] > rows["rows"] for rows in self.summary.get("submission_rows", {}).values())
        return not (failed or neutral or self.summary.get("not_submitted"))

    @property
    def untrained(self) -> tuple[str, ...]:
        """What stood in untrained; the numbers then mean nothing."""
        return tuple(self.summary["untrained"])

    def to_pandas(self) -> pd.DataFrame:
        """The outcome of every video: a row of ``videos.parquet`` each."""
        import pandas as pd

        from emobeam.schemas.tables import VIDEOS

        return pd.DataFrame(list(self.videos), columns=VIDEOS.names)

    def _facts(self) -> list[str]:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items()) or "no videos"
        return [counts, f"{self.summary['seconds']:.1f} s"]

    def __repr__(self) -> str:
        facts = self._facts()
        facts += [f"{entry['outcome']}: {entry['video']}" for entry in self.summary["not_ok"][:_SHOWN]]
        if self.untrained:
            facts.append(f"UNTRAINED: {', '.join(self.untrained)}")
        return f"<{type(self).__name__} {'; '.join(facts)}>"


@dataclass(frozen=True, repr=False)
class Extracted(_Run):
    """What :func:`emobeam.extract` left behind."""

    @property
    def features(self) -> str:
        """Folder of the cache."""
        return str(self.summary["features"])

    def _facts(self) -> list[str]:
        frames = f"{self.summary['frames']} frames, {self.summary['faces']} faces"
        return [repr(self.features), *super()._facts(), frames]


@dataclass(frozen=True, repr=False)
class Predicted(_Run):
    """What :func:`emobeam.predict` left behind.

    Attributes:
        output: the folder.
    """

    output: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that have tables."""
        return tuple(self.summary["predictions"])

    @property
    def scores(self) -> dict[str, float | None]:
        """The challenge's figure by task, where ``truth`` was given."""
        return dict(self.summary["scores"])

    @property
    def submissions(self) -> dict[str, str]:
        """Where the submission of each task lies, where ``edition`` was given."""
        return dict(self.summary["submissions"])

    def load(self, task: str | None = None, **options: Any) -> Any:
        """The predictions: :func:`emobeam.load_predictions` of :attr:`output`."""
        from emobeam.loading import load_predictions

        return load_predictions(self.output, task=task, **options)

    def _facts(self) -> list[str]:
        rows = ", ".join(f"{task} {count} rows" for task, count in self.summary["rows"].items())
        scores = [f"score {task} {'undefined' if v is None else f'{v:.4f}'}" for task, v in self.scores.items()]
        return [repr(self.output), *super()._facts(), *([rows] if rows else []), *scores]


@dataclass(frozen=True, repr=False)
class Annotated(Predicted):
    """What :func:`emobeam.annotate` left behind."""

    @property
    def features(self) -> str:
        """Folder of the cache."""
        return str(self.summary["features"])


@dataclass(frozen=True, repr=False)
class Score:
    """A figure with all that belongs to it.

    Attributes:
        data: what ``emobeam score --json`` prints.
    """

    data: Mapping[str, Any]

    @property
    def value(self) -> float | None:
        """The challenge's figure over all valid rows; None where it is undefined."""
        score: float | None = self.data["score"]
        return score

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval, None where none was made."""
        interval = self.data["interval"]
        return (interval["low"], interval["high"]) if interval else None

    def to_pandas(self) -> pd.DataFrame:
        """A row per video: its valid rows, those with a prediction of their own, and its figure."""
        import pandas as pd

        return pd.DataFrame(list(self.data["per_video"]))

    def __repr__(self) -> str:
        value = "undefined" if self.value is None else f"{self.value:.4f}"
        spread = f" [{self.interval[0]:.4f}, {self.interval[1]:.4f}]" if self.interval else ""
        return f"<Score {self.data['task']}, ABAW{self.data['edition']}: {self.data['measure']} {value}{spread}>"


@dataclass(frozen=True, repr=False, eq=False)
class Findings:
    """Events or summaries.

    Attributes:
        table: Arrow table, see ``emobeam.emo_transforms.results.studies.tables``.
        summary: settings, counts and warnings, as the command prints them with ``--json``.
        failed: videos that could not be read, with the reason.
    """

    table: pa.Table
    summary: Mapping[str, Any]
    failed: Mapping[str, str]

    def to_pandas(self) -> pd.DataFrame:
        """The table."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        failed = f"; {len(self.failed)} videos failed" if self.failed else ""
        return f"<Findings {len(self.table)} rows of task {self.summary['settings'].get('task', '')}{failed}>"


@dataclass(frozen=True)
class Exported:
    """What :func:`emobeam.export` wrote.

    Attributes:
        destination: the folder.
        videos, files, rows: how many; of ``elan`` rows are spans.
        skipped: videos that could not be written in this form, with the reason.
    """

    format: str
    destination: str
    videos: int
    files: int
    rows: int
    skipped: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether every video was written."""
        return not self.skipped
