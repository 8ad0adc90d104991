"""Sockets: multicast, links, the fact service, the control socket, systemd."""
