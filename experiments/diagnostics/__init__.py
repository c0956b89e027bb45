"""Measurements of a trained model on the device: curvature, sharpness, noise, landscapes."""
