"""Everything that is measured per vertex: its table, the thickness there, the membranes around."""
