"""Scheduling of trials with Ray Tune: the only package that imports Ray."""
