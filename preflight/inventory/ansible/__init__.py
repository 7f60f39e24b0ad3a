"""Ansible inventories, in INI and YAML: their groups and variables, and what they say of nodes."""
