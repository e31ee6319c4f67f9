"""From bytes to pixels, and from pixels to varied pixels."""
