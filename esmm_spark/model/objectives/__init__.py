"""Objectives: the loss of an impression and its gradients, compiled and in torch, from a list of terms."""
