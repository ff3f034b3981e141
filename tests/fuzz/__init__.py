"""Fuzz targets for what reads bytes from outside, and the program that runs them: `python -m tests.fuzz`."""
