"""Algorithms of the readout: arrays in, arrays out. They know NumPy, numba and the quality flags, nothing else."""
