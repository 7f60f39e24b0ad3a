"""What a Kubernetes cluster says of itself, read and judged. Pure: objects in, words out."""
