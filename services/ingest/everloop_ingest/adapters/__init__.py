"""What ingest reads sources with: consumers of topics that are not Everloop's."""
