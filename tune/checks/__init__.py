"""What is asked of nodes before trials run there, and by `optbench doctor`."""
