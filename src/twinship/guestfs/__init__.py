"""A guest's files from outside, while it is off: two engines behind one small interface."""
