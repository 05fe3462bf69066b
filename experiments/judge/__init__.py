"""Have free answers judged."""
