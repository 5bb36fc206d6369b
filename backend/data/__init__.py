"""Files or hub data sets to checked, split, encoded rows to batches."""
