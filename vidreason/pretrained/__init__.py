"""A whole reasoner as one folder, on disk or on the Hugging Face Hub."""
