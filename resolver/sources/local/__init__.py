"""Local places: OCI layouts, archives, containerd's content, and a Docker engine."""
