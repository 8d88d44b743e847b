"""The readout on a graphics processor (CUDA): the same arithmetic, and so the same frames.

Imports NumPy and numba, and of the project what imports no more: it runs on a machine that has nothing else.
"""
