"""A deterministic simulator: real Nodes on virtual clocks and a fake LAN; one seed draws it all."""
