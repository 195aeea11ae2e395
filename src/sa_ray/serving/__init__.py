"""Everything that knows Ray: the deployments, the actors, and the HTTP ingress."""
