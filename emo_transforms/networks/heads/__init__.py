"""Heads: what turns windows of a cache's columns into the outputs of a task.

``config`` describes a head, ``architectures`` builds its network, ``head`` runs it, ``new`` makes fresh ones, ``files``
keeps them in folders.
"""
