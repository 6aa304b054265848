"""MySQL and MariaDB, by the names of mysqld_exporter."""
