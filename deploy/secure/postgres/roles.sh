#!/bin/bash
# Makes the role of each service with a database, or brings it up to date. The statements hold no password.
set -e
for service in registry monitoring; do
  psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username everloop --dbname "$service" --file "/run/everloop/$service.sql"
done
