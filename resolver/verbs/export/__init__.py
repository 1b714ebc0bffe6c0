"""Export: layouts, archives, and handing an image to another tool."""
