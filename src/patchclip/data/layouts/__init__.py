"""The layouts in which evaluation sets lie on a disk, and what opens them."""
