"""User-written files, and the platform of this machine."""
