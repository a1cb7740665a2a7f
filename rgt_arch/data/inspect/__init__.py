"""Find faults in images, folders, LMDBs and lists: by a sample of headers before a run, by all pixels on request."""
