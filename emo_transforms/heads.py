"""Heads: what turns windows of a cache's columns into the outputs of a task. All that other modules need of them.

``head_config`` describes a head, ``architectures`` builds its network, ``head`` runs it, ``new_heads`` makes
fresh ones, ``head_files`` keeps them in folders.
"""

from __future__ import annotations

from emo_transforms.architectures import build
from emo_transforms.head import Head, activate
from emo_transforms.head_config import HeadConfig
from emo_transforms.head_files import check_head, load_head, save_head
from emo_transforms.head_module import HeadModule
from emo_transforms.new_heads import Offer, new_head, offer_of, ready_head, untrained_head

__all__ = [
    "Head",
    "HeadConfig",
    "HeadModule",
    "Offer",
    "activate",
    "build",
    "check_head",
    "load_head",
    "new_head",
    "offer_of",
    "ready_head",
    "save_head",
    "untrained_head",
]
