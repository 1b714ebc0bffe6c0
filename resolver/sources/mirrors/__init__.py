"""Where a registry is asked: mirrors, and the files that configure them."""
