"""Starting a pipeline on a cluster, once and safely, from the command line or from CI."""
