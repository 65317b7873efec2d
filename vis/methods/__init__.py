"""The explainers, one file a family; their public names are in `vis` and `vis.visualization`."""
