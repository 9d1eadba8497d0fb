"""Layers of networks over grouped impressions as autograd functions: compiled on the CPU, else in torch."""
