"""The OCI vocabulary: references, digests, descriptors, manifests, configs, and content."""
