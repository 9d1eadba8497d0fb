"""What all kernels of the model share: compilation and threads."""
