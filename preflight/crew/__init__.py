"""The agents of a run, held and spoken to together."""
