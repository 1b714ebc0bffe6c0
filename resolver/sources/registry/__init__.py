"""One repository of a registry: documents, blobs, referrers, tags, and search."""
