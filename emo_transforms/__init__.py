"""The library: plain functions first, thin Beam transforms last (``extract``, ``predict``)."""
