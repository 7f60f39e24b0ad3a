"""What agents are asked: looks at cells, requests to what serves a port, facts."""
