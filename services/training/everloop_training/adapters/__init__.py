"""Who provides what training needs: a worker process with its pipes, and the record of runs."""
