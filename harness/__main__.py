"""`python -m harness`: what `torchrun -m harness` starts."""

from harness.cli.main import main

main()
