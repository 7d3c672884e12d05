"""A finished run on the Hugging Face Hub: what is published, its model card and the upload."""
