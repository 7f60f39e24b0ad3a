"""Why a cell is not open: what deeper looks at one sample of it say. Pure."""
