"""How the dense part is stepped: its optimizer, the clipping of its gradients, and all learning rates."""
