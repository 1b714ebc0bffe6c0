"""TODO resolver/core/lockfile."""
