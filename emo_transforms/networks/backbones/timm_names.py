"""Which models timm has, read from its sources: to import it, and torch with it, takes seconds."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

from emobeam.schemas.records import UsageError

OTHERS = ("mobilefacenet", "ddamfn", "onnx")
"""Networks that aren't timm's."""


def check_timm_name(name: str, weights: str) -> None:
    """Refuses what timm can't have heard of. Who passes may be refused by timm itself.

    Raises:
        UsageError: timm's sources never mention the model, or the weights by their tag.
    """
    text = _sources()
    if not text or name in OTHERS or weights.lower().endswith(".onnx"):
        return
    if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text):
        models = re.findall(r"@register_model\s+def (\w+)\(", text)
        close = difflib.get_close_matches(name, models, n=3) or ["mobilenetv4_conv_small", "tf_efficientnet_b0"]
        raise UsageError(f"--backbone {name}: timm has no such model; for example {', '.join(close)}")
    kind, _, tag = weights.partition(":")
    if kind == "timm" and tag and not re.search(rf"['\"]{re.escape(f'{name}.{tag}')}['\"]", text):
        known = sorted(set(re.findall(rf"['\"]{re.escape(name)}\.(\w+)['\"]", text)) - {"untrained"})
        if known:  # others may have names that are put together when timm is imported
            raise UsageError(
                f"--backbone-weights {weights}: timm has no such weights of {name}; it has {', '.join(known)}"
            )


@lru_cache(maxsize=1)
def _sources() -> str:
    """Of timm's models; empty where they can't be read."""
    spec = importlib.util.find_spec("timm")
    files = sorted(Path(str(spec.origin)).parent.glob("models/*.py")) if spec is not None and spec.origin else []
    return "\n".join(file.read_text("utf-8", "replace") for file in files)
