"""Prepared networks: made ready for OpenVINO once per machine, then loaded without torch.

``keys`` says which network is meant, ``store`` keeps the files, ``ensuring`` finds them or has them made, in a process
of its own (``preparing``) that imports torch, by what ``from_torch`` knows.
"""
