"""Figures against the peers found on this machine: `python -m bench --help`."""
