"""The archive: the history of every loop as Parquet files in Delta Lake tables, on any file system of fsspec."""
