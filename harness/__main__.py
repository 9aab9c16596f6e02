"""`python -m harness`: what `torchrun -m harness` starts."""

from harness.cli import main

main()
