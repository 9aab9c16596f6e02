"""The statistics of a benchmark over seeds: arrays in, frozen results out.

Only NumPy, SciPy and the standard library are imported. SciPy does the distributions and the
tests; what it lacks is here, with formula and source in the docstring. Lower values are better.
"""
