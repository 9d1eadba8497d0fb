"""The towers' fused CPU kernels, behind one function that says whether it serves."""
