"""Which configurations a search trains, and what it is told of them."""
