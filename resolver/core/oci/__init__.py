"""TODO resolver/core/oci."""
