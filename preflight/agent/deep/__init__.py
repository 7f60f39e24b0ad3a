"""A closer look at a few cells: packets of our own choice, watched one by one at both ends."""
