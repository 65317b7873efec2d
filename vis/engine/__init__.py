"""Everything between a model and numbers: layers found and tapped, inputs checked, functions compiled."""
