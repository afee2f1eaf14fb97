"""`pipeline watch` as a service of systemd, or as a scheduled task of Windows."""
