"""The runs of ``tests/pipelines``, which the Python interface is tried on too."""

from tests.pipelines.conftest import clip_folder, copy_of_features, in_pool, pool, reference

__all__ = ["clip_folder", "copy_of_features", "in_pool", "pool", "reference"]
