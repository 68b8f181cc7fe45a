"""Reading ELAN's annotation files (.eaf, EUDICO Annotation Format 2.x and 3.x)."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree import ElementTree

from emobeam.emo_transforms import storage
from emobeam.schemas.records import EmobeamError


@dataclass(frozen=True)
class Annotation:
    """A stretch of a tier, half-open, in s."""

    start: float
    end: float
    value: str


@dataclass(frozen=True)
class Medium:
    """A medium that a file links: its name as written, its type (``video/mp4``), and the time in it, in s, that is 0 in
    the file's annotations (ELAN's offset of synchronised media).
    """

    name: str
    kind: str = ""
    origin: float = 0.0


@dataclass(frozen=True)
class ElanFile:
    """What a file holds.

    Attributes:
        uri: of the file.
        media: what it is about.
        tiers: annotations by name of the tier, in order of time; empty tiers are there too.
        untimed: by tier, annotations left out because they have no time on one side.
    """

    uri: str
    media: tuple[Medium, ...]
    tiers: dict[str, tuple[Annotation, ...]]
    untimed: dict[str, int] = field(default_factory=dict)

    def origin(self, video: str) -> float | None:
        """What has to be added to times of annotations to have times of a video, in s.

        That of the medium with the video's name; else that of all its videos, or of all its media where none says that
        it is one. None where these differ.
        """
        wanted = video.replace("\\", "/").rpartition("/")[2]
        videos = [each for each in self.media if each.kind.startswith("video/")]
        named = [
            [each for each in media if wanted in (_last(each.name), _last(each.name).rpartition(".")[0])]
            for media in (videos, self.media)
        ]
        about = next((media for media in (*named, videos) if media), self.media)
        origins = {each.origin for each in about} or {0.0}
        return origins.pop() if len(origins) == 1 else None


def _last(name: str) -> str:
    """Last component of a path or URL."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def read_eaf(uri: str) -> ElanFile:
    """Reads tiers with times of their own and tiers that refer to them (their annotations take the parent's times).

    Several annotations of a referring tier under one parent share its time in equal parts, in their order, as ELAN
    shows a symbolic subdivision.

    Raises:
        EmobeamError: no such file, no XML, or no annotation document.
    """
    try:
        root = ElementTree.fromstring(storage.read_bytes(uri))
    except FileNotFoundError as error:
        raise EmobeamError(f"{uri}: no such file; check the name") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise EmobeamError(f"{uri}: not an ELAN file ({error})") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise EmobeamError(f"{uri}: not an ELAN file (its root is {root.tag}); save it as .eaf in ELAN")
    try:
        return _document(uri, root)
    except (KeyError, ValueError) as error:
        raise EmobeamError(f"{uri}: damaged ELAN file ({type(error).__name__}: {error})") from error


def _document(uri: str, root: ElementTree.Element) -> ElanFile:
    header = root.find("HEADER")
    unit = (header.get("TIME_UNITS") if header is not None else "") or "milliseconds"
    if unit != "milliseconds":
        raise EmobeamError(f"{uri}: times are in {unit}, expected milliseconds; export it from ELAN again")
    slots = {
        slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) / 1000
        for slot in root.iterfind("TIME_ORDER/TIME_SLOT")
        if slot.get("TIME_VALUE") is not None
    }
    spans: dict[str, tuple[float, float]] = {}
    timed: dict[str, list[tuple[str, str]]] = {}
    referring: dict[str, list[tuple[str, str, str, str]]] = {}
    untimed: dict[str, int] = {}
    for tier in root.iterfind("TIER"):
        name = tier.attrib["TIER_ID"]
        timed[name], referring[name] = [], []
        for each in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION"):
            identity, value = each.attrib["ANNOTATION_ID"], each.findtext("ANNOTATION_VALUE") or ""
            start, end = slots.get(each.attrib["TIME_SLOT_REF1"]), slots.get(each.attrib["TIME_SLOT_REF2"])
            if start is None or end is None or end <= start:
                untimed[name] = untimed.get(name, 0) + 1
                continue
            spans[identity] = (start, end)
            timed[name].append((identity, value))
        for each in tier.iterfind("ANNOTATION/REF_ANNOTATION"):
            identity, value = each.attrib["ANNOTATION_ID"], each.findtext("ANNOTATION_VALUE") or ""
            parent, before = each.attrib["ANNOTATION_REF"], each.get("PREVIOUS_ANNOTATION", "")
            referring[name].append((identity, parent, before, value))
    _resolve(spans, referring)
    tiers = {}
    for name in timed:
        own = [*timed[name], *((identity, value) for identity, _, _, value in referring[name])]
        lost = sum(identity not in spans for identity, _ in own)
        if lost:
            untimed[name] = untimed.get(name, 0) + lost
        found = [Annotation(*spans[identity], value.strip()) for identity, value in own if identity in spans]
        tiers[name] = tuple(sorted(found, key=lambda each: (each.start, each.end)))
    media = [
        Medium(
            each.get("RELATIVE_MEDIA_URL") or each.get("MEDIA_URL") or "",
            (each.get("MIME_TYPE") or "").lower(),
            float(each.get("TIME_ORIGIN") or 0) / 1000,
        )
        for each in root.iterfind("HEADER/MEDIA_DESCRIPTOR")
    ]
    return ElanFile(uri, tuple(each for each in media if each.name), tiers, untimed)


def _resolve(spans: dict[str, tuple[float, float]], referring: dict[str, list[tuple[str, str, str, str]]]) -> None:
    """Gives referring annotations their times; chains of tiers take one round per generation."""
    waiting = {name: list(rows) for name, rows in referring.items() if rows}
    while waiting:
        ready = [name for name, rows in waiting.items() if any(parent in spans for _, parent, _, _ in rows)]
        if not ready:
            return
        for name in ready:
            by_parent: dict[str, list[tuple[str, str]]] = {}
            for identity, parent, before, _ in waiting.pop(name):
                by_parent.setdefault(parent, []).append((identity, before))
            for parent, children in by_parent.items():
                if parent not in spans:
                    continue
                start, end = spans[parent]
                share = (end - start) / len(children)
                for place, identity in enumerate(_in_order(children)):
                    spans[identity] = (start + place * share, start + (place + 1) * share)


def _in_order(children: list[tuple[str, str]]) -> list[str]:
    """Identities so that each follows the one it names as its predecessor."""
    after = {before: identity for identity, before in children if before}
    names = {identity for identity, _ in children}
    ordered: list[str] = []
    for first, before in children:
        if before not in names:
            identity = first
            while identity and identity not in ordered:
                ordered.append(identity)
                identity = after.get(identity, "")
    return ordered + [identity for identity, _ in children if identity not in ordered]
