"""Finding image references in files, and the edits that pin them."""
