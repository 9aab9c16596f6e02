"""A trial's state on disk: saved by all workers of a gang, continued by any other gang.

A checkpoint is a folder `step-00000040` with a safetensors part of each worker and a manifest:

    storage   a folder on any file system          manifest   what it is of, and the hashes
    parts     the tensors, by name and range       saving     when and how it is written
    newest    which one to go on from              resume     a trial goes on from it
"""

from harness.training.checkpoint.newest import Found, newest_valid

__all__ = ["Found", "newest_valid"]
