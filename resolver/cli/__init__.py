"""How questions are asked: options in, one call to the session, one answer out."""
