#!/bin/bash
# Makes the roles of both servers, or brings them up to date. The statements hold no password.
set -e
run() { psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username everloop "$@"; }
for service in registry monitoring; do
  run --dbname "$service" --file "/run/everloop/$service.sql"
done
run --host /run/postgresql-keys --dbname personal --file /run/everloop-keys/personal.sql
