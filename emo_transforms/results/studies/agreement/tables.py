"""The Arrow schemas of what ``emobeam agree`` writes."""

from __future__ import annotations

import pyarrow as pa


def _floats(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.float64()) for name in names]


def _counts(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.int64()) for name in names]


def _texts(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string()) for name in names]


_COUNTED = [
    *_texts("task", "unit", "kind"),
    *_counts("moments", "not_seen", "not_coded", "videos", "persons"),
]
_BINARY = ("kappa", "pabak", "f1")
_SIMPLE = ("precision", "recall", "agreement", "prevalence_index", "bias_index", "human", "program")
_CONTINUOUS = ("icc2_1", "icc3_1", "ccc")
_EVENTS = (
    *("human_events", "program_events", "matched", "missed", "extra"),
    *("human_events_not_seen", "program_events_not_coded"),
)


def _with_ends(*names: str) -> list[pa.Field]:
    return _floats(*(name + end for name in names for end in ("", "_low", "_high")))


UNITS = pa.schema(
    [
        *_COUNTED,
        *_with_ends(*_BINARY),
        *_floats(*_SIMPLE),
        *_with_ends(*_CONTINUOUS),
        *_floats("pearson", "human_mean", "program_mean"),
        *_texts("match"),
        *_counts(*_EVENTS),
        *_with_ends("event_f1"),
        *_floats("event_precision", "event_recall"),
        *_with_ends("onset_lag", "offset_lag"),
        *_texts("interval_over"),
        *_counts("interval_units"),
        *_texts("baseline", "note"),
    ]
)
"""One row per unit over all videos. ``moments`` were compared, ``not_seen`` and ``not_coded`` left out; ``human`` and
``program`` are shares of active moments; lags are program minus coder, s; ``_low`` and ``_high`` end the 95 % interval,
drawn over ``interval_units`` times what ``interval_over`` says."""

VIDEOS = pa.schema(
    [
        *_texts("video", "subject"),
        *_counts("face"),
        *_texts("person"),
        *_COUNTED,
        *_floats(*_BINARY, *_SIMPLE, *_CONTINUOUS, "pearson", "human_mean", "program_mean"),
        *_texts("match"),
        *_counts(*_EVENTS),
        *_floats("event_f1", "event_precision", "event_recall", "onset_lag", "offset_lag"),
        *_texts("baseline", "note"),
    ]
)
"""The same for each unit of each face of a video, without intervals."""

PAIRS = pa.schema(
    [
        *_texts("video", "subject"),
        *_counts("face"),
        *_texts("unit", "outcome"),
        *_floats("human_onset", "human_offset", "program_onset", "program_offset", "onset_lag", "offset_lag"),
    ]
)
"""One row per event of the coder, the program or both."""
