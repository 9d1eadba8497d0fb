"""Synthetic logs whose pCTR and pCVR are known."""
