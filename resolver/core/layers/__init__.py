"""Reading layers: decompression, tar streams, file trees, and the programs in them."""
