"""Check: requirements, policies, and whether an image meets them."""
