"""Python imports this file when it starts with its folder on the path, as every process that tests start does.

With the repository's root on the path too, ``import schemas`` would find a second copy of ``emobeam.schemas``, and so
would a pickle that names it. Here that fails.
"""

import sys

PARTS = ("schemas", "emo_transforms", "pipelines", "runners")


class NoSecondCopies:
    """Refuses to find parts of emobeam under another name."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Leaves every other module to the next one who looks; raises ``ImportError`` for ours."""
        if name in PARTS:
            raise ImportError(f"a second copy of a part of emobeam: import emobeam.{name}", name=name)


sys.meta_path.insert(0, NoSecondCopies)
