"""Work that is to be done, when, and by whom."""
