-- Run once, when the volume is new: the registry's database is there already, monitoring has its own.
CREATE DATABASE monitoring;
