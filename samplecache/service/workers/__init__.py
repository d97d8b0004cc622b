"""Several processes behind one port: the owner of the samples keeps the books, its workers stream."""
