"""Statements, bundles and signatures about images: parsing and verification."""
